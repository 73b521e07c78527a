-- one row in, one reason out (macros): what is wrong with a raw line, null if nothing is
-- DuckDB's casts are lenient (' 1', '1.5' and '1e3' all become integers), so digits are asked for by pattern.
create or replace macro id_fault(text, bad) as
case
    when regexp_full_match(text, '[0-9]+') then if(try_cast(text as bigint) is null, 'id_overflow', null)
    when regexp_full_match(text, '-[0-9]+') then 'negative_id'
    else bad
end;

-- Seconds since 1970, up to the end of 2099.
create or replace macro seconds_fault(seconds) as
case
    when seconds < 4102444800 then null
    when seconds between 100000000000 and 99999999999999 then 'timestamp_in_milliseconds'
    else 'timestamp_out_of_range'
end;

create or replace macro timestamp_fault(text) as
if(
    regexp_full_match(text, '[0-9]+'),
    seconds_fault(coalesce(try_cast(text as bigint), 9223372036854775807)),
    'bad_timestamp'
);

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

-- Whole stars, 1 to 5, written as 4 or 4.0.
create or replace macro stars_fault(text) as
case
    when regexp_full_match(text, '[1-5]([.]0{1,9})?') then null
    when regexp_full_match(text, '-?[0-9]{1,9}([.][0-9]{1,9})?') then 'rating_off_scale'
    else 'bad_rating'
end;

-- A calendar day of 1970 to 2099, YYYY-MM-DD, or a second of one, YYYY-MM-DD HH:MM:SS.
create or replace macro date_fault(text) as
case
    when
        not regexp_full_match(
            text, '[0-9]{4}-[0-9]{2}-[0-9]{2}( ([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9])?'
        ) then 'bad_timestamp'
    when try_cast(text as timestamp) is null then 'bad_timestamp'
    when text < '1970' or text >= '2100' then 'timestamp_out_of_range'
end;

-- A JSON string of the given pattern; found is its JSON text, quotes included, null where the key is missing.
create or replace macro key_fault(found, pattern, bad) as
case
    when found is null then 'missing_key'
    when not regexp_full_match(found, '"' || pattern || '"') then bad
end;

-- Milliseconds since 1970, up to the end of 2099; what would be weeks after its beginning is seconds of a later year.
create or replace macro milliseconds_fault(milliseconds) as
case
    when milliseconds between 4102444800 and 4102444799999 then null
    when milliseconds between 100000000 and 4102444799 then 'timestamp_in_seconds'
    else 'timestamp_out_of_range'
end;
