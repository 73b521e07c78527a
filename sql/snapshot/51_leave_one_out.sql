-- one row per target of the split leave_one_out
-- part                            'validation' or 'test'
-- user, item, event, event_time   as in 50_target_events.sql
-- Test is a user's last target event where there are three or more, validation the latest one strictly before it in
-- time. A user with two target events, or whose target events all share one time, has only a validation target: the
-- last. A user with one has none.
with ranked as (
    select
        *,
        row_number() over (partition by user order by event desc) as from_last,
        count(*) over (partition by user) as of_user,
        min(event_time) over (partition by user) as earliest,
        max(event_time) over (partition by user) as latest
    from target_events
),

tested as (
    select * from ranked
    where of_user >= 3 and earliest < latest
),

test as (
    select
        'test' as part,
        user,
        item,
        event,
        event_time
    from tested
    where from_last = 1
),

validation_of_tested as (
    select
        'validation' as part,
        user,
        item,
        event,
        event_time
    from tested
    where event_time < latest
    qualify row_number() over (partition by user order by event desc) = 1
),

validation_of_others as (
    select
        'validation' as part,
        user,
        item,
        event,
        event_time
    from ranked
    where from_last = 1 and of_user >= 2 and (of_user = 2 or earliest = latest)
),

final as (
    select * from test
    union all
    select * from validation_of_tested
    union all
    select * from validation_of_others
)

select * from final
