-- one row per physical line of one raw file (view)
-- source_row   1-based line number, as an editor shows it
-- line         without its line end
with blocks as (
    select
        first_row,
        string_split(text, chr(10)) as parts
    from chunks
),

final as (
    select
        unnest(range(first_row, first_row + len(parts))) as source_row,
        unnest(parts) as line
    from blocks
)

select * from final
