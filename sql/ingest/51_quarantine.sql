-- one row per rejected row of the delivery
-- raw   the line as it stands in the file; bytes that are not UTF-8 as \x and two hexadecimal digits
with final as (
    select
        source_file,
        source_row,
        reason,
        replace(raw, chr(65534), '\') as raw
    from rejected
    where reason != 'blank'
)

select * from final
order by source_file, source_row
