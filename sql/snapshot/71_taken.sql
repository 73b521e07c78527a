-- one row per user and item that is no candidate for the user's targets from a row on
-- user, item
-- since   row of the first use of the item, or of the first meeting with it where candidates must be unseen
with final as (
    select
        user,
        item,
        min(event) as since
    from events
    semi join candidate_plan using (user)
    where
        (used_up = 1 and list_contains(getvariable('consuming'), behavior))
        or (met = 1 and getvariable('unseen'))
    group by user, item
)

select * from final
