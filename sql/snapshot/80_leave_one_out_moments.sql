-- one row per moment of the split leave_one_out
-- moment
-- part   'training': before the user's validation target's time. 'validation': the user's last moment from then on and
--        before the test target's time. 'test': the last one from that time on.
-- A user's other moments after the training range are in no part: they are history and nothing else.
with tested as (
    select
        user,
        history_end as test_from
    from histories
    where part = 'test'
),

placed as (
    select
        moments.moment,
        moments.user,
        case
            when moments.history_end < training.train_end then 'training'
            when moments.history_end < coalesce(tested.test_from, moments.history_end + 1) then 'validation'
            else 'test'
        end as part
    from moments
    inner join training on moments.user = training.user
    left join tested on moments.user = tested.user
),

final as (
    select
        moment,
        part
    from placed
    qualify part = 'training' or row_number() over (partition by user, part order by moment desc) = 1
)

select * from final
