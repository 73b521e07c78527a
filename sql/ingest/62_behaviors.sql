-- one row per behavior: its events
select
    cast(behavior as varchar) as behavior,
    count(*) as row_count
from candidates
where reason is null
group by behavior
order by behavior
