-- one row per line of one's own CSV or TSV file (view)
-- fault   what is wrong with the line as a whole; the fields are texts, null where the file has none of the kind
with cut as (
    select
        source_row,
        line,
        getvariable('table_quoted') and contains(line, '"') as has_quotes,
        -- A separator is added, so that every column ends with one and none can match in two ways.
        case
            when has_quotes
                then regexp_extract_all(line || getvariable('table_separator'), getvariable('table_quoted_column'))
            else string_split(line, getvariable('table_separator'))
        end as parts
    from lines
),

picked as (
    select
        *,
        parts[getvariable('table_user')] as user_part,
        parts[getvariable('table_item')] as item_part,
        parts[getvariable('table_behavior')] as behavior_part,
        parts[getvariable('table_time')] as time_part,
        parts[getvariable('table_category')] as category_part,
        parts[getvariable('table_value')] as value_part
    from cut
),

bare as (
    select
        source_row,
        line,
        coalesce(
            line_fault(line, 0, 0),
            case
                when has_quotes and length(array_to_string(parts, '')) != length(line) + 1 then 'bad_quotes'
            end,
            line_fault(line, len(parts), getvariable('table_columns'))
        ) as fault,
        if(has_quotes, table_unquoted(user_part), user_part) as user_text,
        if(has_quotes, table_unquoted(item_part), item_part) as item_text,
        if(has_quotes, table_unquoted(behavior_part), behavior_part) as behavior_text,
        if(has_quotes, table_unquoted(time_part), time_part) as time_text,
        if(has_quotes, table_unquoted(category_part), category_part) as category_text,
        if(has_quotes, table_unquoted(value_part), value_part) as value_text
    from picked
),

final as (
    select
        source_row,
        line,
        fault,
        if(user_text in getvariable('table_nulls'), null, user_text) as user_text,
        if(item_text in getvariable('table_nulls'), null, item_text) as item_text,
        behavior_text,
        time_text,
        if(category_text in getvariable('table_nulls'), null, category_text) as category_text,
        if(value_text in getvariable('table_nulls'), null, value_text) as value_text
    from bare
)

select * from final
