-- one row per user: the training range of the split published
-- user, first_event
-- train_end   training ends before the held-out event; all events where there is none
with final as (
    select
        offsets.user,
        offsets.first_event,
        coalesce(held_out.event, offsets.end_event) as train_end
    from offsets
    left join held_out on offsets.user = held_out.user
)

select * from final
