-- one row per moment and sampled negative
-- moment, item
-- The first distinct offers that the user said nothing of at that time and that are not used up by then; fewer than
-- wanted where the draws have no more. Where candidates must be unseen, nothing of the history is a negative.
with taken as (
    select
        user,
        item,
        min(event) as since
    from events
    semi join moments using (user)
    where
        (used_up = 1 and list_contains(getvariable('consuming'), behavior))
        or (met = 1 and getvariable('unseen'))
    group by user, item
),

admissible as (
    select
        impression_offers.moment,
        impression_offers.candidate as item,
        min(impression_offers.position) as position,
        min(impression_offers.wanted) as wanted
    from impression_offers
    left join taken on impression_offers.user = taken.user and impression_offers.candidate = taken.item
    anti join feedback
        on
            impression_offers.user = feedback.user
            and impression_offers.event_time = feedback.event_time
            and impression_offers.candidate = feedback.item
    where taken.since is null or taken.since >= impression_offers.history_end
    group by impression_offers.moment, impression_offers.candidate
),

final as (
    select
        moment,
        item
    from admissible
    qualify row_number() over (partition by moment order by position) <= wanted
)

select * from final
