-- one row in, one reason out (macros): what is wrong with a raw line, null if nothing is
-- DuckDB's casts are lenient (' 1', '1.5' and '1e3' all become integers), so digits are asked for by pattern.
create or replace macro id_fault(text, bad) as
case
    when regexp_full_match(text, '[0-9]+') then if(try_cast(text as bigint) is null, 'id_overflow', null)
    when regexp_full_match(text, '-[0-9]+') then 'negative_id'
    else bad
end;

-- Seconds since 1970, up to the end of 2099.
create or replace macro timestamp_fault(text) as
case
    when regexp_full_match(text, '[0-9]{12,14}') then 'timestamp_in_milliseconds'
    when not regexp_full_match(text, '[0-9]+') then 'bad_timestamp'
    when coalesce(try_cast(text as bigint), 9e18) >= 4102444800 then 'timestamp_out_of_range'
end;

-- A rating of 0.5 to 5 in steps of one half.
create or replace macro rating_fault(text) as
case
    when not regexp_full_match(text, '-?[0-9]{1,9}([.][0-9]{1,9})?') then 'bad_rating'
    when cast(text as double) not between 0.5 and 5 then 'rating_off_scale'
    when cast(text as double) * 2 != floor(cast(text as double) * 2) then 'rating_off_scale'
end;

-- What is wrong with a line before its columns are looked at. U+FFFE stands where bytes were not UTF-8.
create or replace macro line_fault(line, columns, expected) as
case
    when trim(line) = '' then 'blank'
    when contains(line, chr(65534)) then 'invalid_utf8'
    when columns < expected then 'missing_columns'
    when columns > expected then 'extra_columns'
end;
