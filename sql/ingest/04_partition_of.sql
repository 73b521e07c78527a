-- one moment in, one day out (macros): the first day of the partition that an event of that time belongs to, UTC
-- Whole days are counted from a day of the year 1696 on, because integer division rounds towards zero.
create or replace macro day_of(event_time) as
date '1696-03-17' + cast((epoch_us(event_time) + 8640000000000000) // 86400000000 as integer);

create or replace macro partition_of(event_time) as
case getvariable('partition')
    when 'day' then day_of(event_time)
    else cast(date_trunc(getvariable('partition'), day_of(event_time)) as date)
end;
