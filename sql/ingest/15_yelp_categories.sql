-- one row per business of a Yelp business file (view)
-- category_id   its first category; the smallest where a business stands there twice, null where it has none
-- It is a file to look things up in, not a log: lines that are no JSON are left out.
with objects as (
    select json_extract(line, ['$.business_id', '$.categories', '$.categories[0]']) as found
    from
        read_csv(
            getvariable('businesses'),
            delim = chr(1),
            quote = '',
            escape = '',
            header = false,
            auto_detect = false,
            columns = { 'line': 'varchar' },
            max_line_size = 16777216,
            ignore_errors = true
        )
    where json_valid(line)
),

-- A list in the old layouts, text with commas in the new ones.
named as (
    select
        json_extract_string(found[1], '$') as business_id,
        if(
            found[3] is null and json_type(found[2]) = 'VARCHAR',
            trim(split_part(json_extract_string(found[2], '$'), ',', 1)),
            json_extract_string(found[3], '$')
        ) as category
    from objects
),

final as (
    select
        business_id,
        min(nullif(category, '')) as category_id
    from named
    group by business_id
)

select * from final
