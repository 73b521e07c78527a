-- one row per line of one's own JSON lines file (view)
-- fault   what is wrong with the line as a whole; the fields are texts, null where the key is missing or null
with objects as (
    select
        source_row,
        line,
        if(
            json_valid(line) and starts_with(ltrim(line), '{'),
            json_extract_string(line, getvariable('table_paths')),
            null
        ) as found
    from lines
),

final as (
    select
        source_row,
        line,
        coalesce(line_fault(line, 0, 0), if(found is null, 'bad_json', null)) as fault,
        table_json_text(line, found, getvariable('table_user')) as user_text,
        table_json_text(line, found, getvariable('table_item')) as item_text,
        table_json_text(line, found, getvariable('table_behavior')) as behavior_text,
        table_json_text(line, found, getvariable('table_time')) as time_text,
        table_json_text(line, found, getvariable('table_category')) as category_text,
        table_json_text(line, found, getvariable('table_value')) as value_text
    from objects
)

select * from final
