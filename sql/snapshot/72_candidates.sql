-- one row per target of the plan and offer to it (view)
-- target
-- candidate   an admissible item, as often as it was drawn
-- rank        a target's candidates are those of lowest (rank, candidate): the first distinct admissible ones of an
--             endless sequence of uniform draws (how many draws were made changes nothing), or of a shuffled catalog
--             where that is small
-- hash(a, b) alone is hash(a) times a constant, xor hash(b): hashed once more, it is as good as random.
with drawn as (
    select
        target,
        user,
        item,
        history_end,
        catalog,
        seed,
        unnest(range(draws)) as position
    from candidate_plan
    where draws is not null
),

shuffled as (
    select
        target,
        user,
        item,
        history_end,
        seed,
        unnest(range(catalog)) as candidate
    from candidate_plan
    where draws is null
),

offered as (
    select
        target,
        user,
        item,
        history_end,
        cast(hash(hash(seed, position)) % cast(catalog as ubigint) as integer) as candidate,
        cast(position as uinteger) as rank
    from drawn
    union all
    select
        target,
        user,
        item,
        history_end,
        cast(candidate as integer) as candidate,
        cast(hash(hash(seed, candidate)) >> 32 as uinteger) as rank
    from shuffled
),

final as (
    select
        offered.target,
        offered.candidate,
        offered.rank
    from offered
    left join taken on offered.user = taken.user and offered.candidate = taken.item
    where offered.candidate != offered.item and (taken.since is null or taken.since >= offered.history_end)
)

select * from final
