-- one row in, one day out (macros): the first day of the partition that an event of that time belongs to, UTC
create or replace macro day_of(event_time) as
cast(make_timestamp(epoch_us(event_time)) as date);

create or replace macro partition_of(event_time) as
case getvariable('partition')
    when 'day' then day_of(event_time)
    else cast(date_trunc(getvariable('partition'), day_of(event_time)) as date)
end;
