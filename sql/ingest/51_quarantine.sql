-- one row per rejected row of the delivery
-- raw   the line as it stands in the file; bytes that are not UTF-8 as \x and two hexadecimal digits
with final as (
    select
        getvariable('files')[file_number] as source_file,
        source_row,
        cast(reason as varchar) as reason,
        replace(raw, chr(65534), '\') as raw
    from candidates
    where reason is not null and reason not in ('blank', 'duplicate')
)

select * from final
order by source_file, source_row
