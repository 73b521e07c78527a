-- one row per target of one stretch of targets
-- target, user, item, history_end, catalog   as in 65_targets.sql
-- seed    what the draws follow from; nothing at or after the target's time is in it
-- draws   how many items to draw at first; null where the catalog is so small that all of it is shuffled instead
with bounded as (
    select
        targets.target,
        targets.user,
        targets.item,
        targets.history_end,
        targets.catalog,
        hash(
            getvariable('seed'), getvariable('split'), users.user_id, items.item_id, epoch_us(targets.event_time)
        ) as seed,
        targets.catalog - getvariable('candidates') - 1 - case
            when getvariable('excluding') then targets.history_end - offsets.first_event
            else 0
        end as surplus
    from targets
    inner join users on targets.user = users.user
    inner join items on targets.item = items.item
    inner join offsets on targets.user = offsets.user
    where targets.target >= getvariable('first_target') and targets.target < getvariable('end_target')
),

-- accepted: the least probability that a draw is a new, admissible item
likely as (
    select
        *,
        greatest(surplus, 1) / catalog as accepted
    from bounded
),

-- enough draws that hardly a target comes out short: the mean, and as many deviations as we like
sized as (
    select
        *,
        getvariable('candidates') + getvariable('deviations') * (
            1 + sqrt(getvariable('candidates') * (1 - accepted))
        ) as offers
    from likely
),

final as (
    select
        target,
        user,
        item,
        history_end,
        catalog,
        seed,
        case
            when surplus >= 4 * getvariable('candidates') then cast(ceil(greatest(offers, 1) / accepted) as bigint)
        end as draws
    from sized
    where catalog > 0
)

select * from final
