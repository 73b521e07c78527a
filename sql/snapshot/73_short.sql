-- one row per target whose draws gave too few candidates: the plan to draw four times as many
-- columns of 70_candidate_plan.sql
with final as (
    select candidate_plan.* replace (4 * candidate_plan.draws as draws)
    from candidate_plan
    left join drawn on candidate_plan.target = drawn.target
    where
        candidate_plan.draws is not null
        and coalesce(len(drawn.items), 0) < getvariable('candidates')
)

select * from final
