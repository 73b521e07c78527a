-- one row in, one reason out (macros): what is wrong with a field of one's own log, null if nothing is
create or replace macro table_id_fault(text, kind, bad) as
case
    when text is null or text = '' or regexp_matches(text, '^\s|\s$') then bad
    when kind = 'int64' then id_fault(text, bad)
end;

create or replace macro table_number_fault(text, bad) as
case
    when not regexp_full_match(text, '[-+]?[0-9]{1,15}([.][0-9]{0,15})?([eE][-+]?[0-9]{1,2})?') then bad
end;

-- Microseconds since 1970 as the clock shows them, null if they cannot be read: a local time still without its zone.
create or replace macro table_clock_us(text, unit, scale_us, format) as
case
    when unit in ('seconds', 'milliseconds', 'microseconds')
        then
            case
                -- The short way for whole numbers that cannot overflow.
                when not contains(text, '.') and length(text) + length(cast(scale_us as varchar)) <= 19
                    then try_cast(text as bigint) * scale_us
                else try_cast(floor(try_cast(text as decimal(28, 9)) * scale_us) as bigint)
            end
    when unit = 'iso8601'
        then
            if(
                regexp_full_match(
                    text,
                    concat(
                        '[0-9]{4}-[0-9]{2}-[0-9]{2}',
                        '([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.,][0-9]{1,9})?)?(Z|[+-][0-9]{2}(:?[0-9]{2})?)?)?'
                    )
                ),
                epoch_us(try_cast(replace(text, ',', '.') as timestamptz)),
                null
            )
    when unit = 'date'
        then
            if(
                regexp_full_match(text, '[0-9]{4}-[0-9]{2}-[0-9]{2}'),
                epoch_us(cast(try_cast(text as date) as timestamp)),
                null
            )
    else epoch_us(try_strptime(text, format))
end;

-- clock_us: the time as it could be read, null if it could not.
create or replace macro table_time_fault(text, unit, clock_us) as
case
    when text is null then 'bad_timestamp'
    when unit in ('seconds', 'milliseconds', 'microseconds')
        then
            case
                when not regexp_full_match(text, '[0-9]+([.][0-9]{1,9})?') then 'bad_timestamp'
                when clock_us < 4102444800000000 then null
                when
                    unit = 'seconds' and regexp_full_match(text, '0*[1-9][0-9]{11,13}')
                    then 'timestamp_in_milliseconds'
                else 'timestamp_out_of_range'
            end
    when clock_us is null then 'bad_timestamp'
    when clock_us < 0 or clock_us >= 4102444800000000 then 'timestamp_out_of_range'
end;

-- One column of a line that was cut with its quotes and separators left on.
create or replace macro table_unquoted(part) as
case
    when part[1] = '"' then replace(part[2:-3], '""', '"')
    else part[:-2]
end;

-- A JSON value as text: strings without their quotes, numbers and booleans as they stand; null for anything else.
-- found: the texts of all values of the line; place: of this one. Only what looks like no plain value is parsed again.
create or replace macro table_json_text(line, found, place) as
case
    when
        left(found[place], 1) in ('{', '[')
        and json_type(json_extract(line, getvariable('table_paths'))[place]) in ('OBJECT', 'ARRAY')
        then null
    else found[place]
end;
