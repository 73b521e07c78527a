-- one row per target whose draws gave too few candidates: the plan to draw four times as many
-- columns of 70_candidate_plan.sql
with final as (
    select * replace (4 * draws as draws) from candidate_plan
    where list_contains(getvariable('short'), target)
)

select * from final
