-- one row per user: the training range of the split leave_one_out
-- user, first_event
-- train_end   training ends before the user's validation target; all events where there is none
with validation as (
    select
        user,
        history_end
    from histories
    where part = 'validation'
),

final as (
    select
        offsets.user,
        offsets.first_event,
        coalesce(validation.history_end, offsets.end_event) as train_end
    from offsets
    left join validation using (user)
)

select * from final
