-- one row per user: the training range of the split published
-- user, first_event
-- train_end   training ends before the held-out event, or before an earlier one that the best epoch is chosen on; all
--             events where there is neither
with final as (
    select
        offsets.user,
        offsets.first_event,
        coalesce(epoch_choice.event, held_out.event, offsets.end_event) as train_end
    from offsets
    left join held_out on offsets.user = held_out.user
    left join epoch_choice on offsets.user = epoch_choice.user
)

select * from final
