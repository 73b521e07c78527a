"""GRUs whose steps are gated by attention: how an interest evolves towards one item (DIEN, section 4.3).

With inputs i_t, attention weights a_t, the state s_0 = 0 and `*` elementwise, one of

    augru      update a_t u_t                                                       (AUGRU, equations 15 and 16)
    agru       update a_t, without a gate u                                         (AGRU, equation 14)
    aigru      update u_t, and a_t i_t in place of i_t                              (AIGRU, equation 13)
    published  update 1 - (1 - a_t) (1 - u_t): the paper's published code instead of AUGRU; where a_t is 0 it goes on
               as a plain GRU, where AUGRU stands still

    u_t = sigma( W^u i_t + U^u s_{t-1} + b^u ),  r_t likewise
    c_t = tanh( W^h i_t + r_t * U^h s_{t-1} + b^h )
    s_t = (1 - update) * s_{t-1} + update * c_t
"""

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from hmar.layers.time_steps import TimeSteps

Evolution = Literal["augru", "agru", "aigru", "published"]
EVOLUTIONS: tuple[Evolution, ...] = get_args(Evolution)


class AttentionGRU(nn.Module):
    """The last state of every row for each of N series of weights over the same inputs."""

    def __init__(self, d: int, evolution: Evolution) -> None:
        """
        Args:
            d: width of inputs and states.
        """
        super().__init__()
        self.evolution, self.d = evolution, d
        # In the order r, h, u; U^h s is gated by r before it is added, so its bias stands with the inputs.
        gates = 2 if evolution == "agru" else 3
        self.inputs = nn.Linear(d, gates * d)
        self.states = nn.Linear(d, gates * d, bias=False)

    def project(self, x_TD: Tensor) -> Tensor:
        """W i_t, [T, G], to be made once for all series of weights."""
        return nn.functional.linear(x_TD, self.inputs.weight)

    def forward(self, projected_TG: Tensor, weights_TN: Tensor, steps: TimeSteps) -> Tensor:
        """States [F, N, D] after the last token of the F rows of ``steps.row``.

        Args:
            projected_TG: by :meth:`project`; tokens in the order of ``steps.token``, as are those of ``weights_TN``.
        """
        bias_G, weight_DG = self.inputs.bias, self.states.weight.T
        # Of the parameters' type: in mixed precision products are narrow, but what they add up to is not.
        state_FND = bias_G.new_zeros(len(steps.row), weights_TN.shape[1], self.d)
        weights_TN = weights_TN.to(bias_G.dtype)
        done, start = [], 0
        for active in steps.active:
            if active < len(state_FND):
                done.append(state_FND[active:])
                state_FND = state_FND[:active]
            x_FNG = projected_TG[start : start + active, None]
            a_FN1 = weights_TN[start : start + active, :, None]
            x_FNG = (a_FN1 * x_FNG if self.evolution == "aigru" else x_FNG) + bias_G
            state_FND = self._step(x_FNG, a_FN1, state_FND, state_FND @ weight_DG)
            start += active
        return torch.cat([state_FND, *reversed(done)])

    def _step(self, x_FNG: Tensor, a_FN1: Tensor, state_FND: Tensor, from_state_FNG: Tensor) -> Tensor:
        x_r, x_h, *x_u = x_FNG.split(self.d, dim=-1)
        s_r, s_h, *s_u = from_state_FNG.split(self.d, dim=-1)
        c = ((x_r + s_r).sigmoid() * s_h + x_h).tanh()
        if self.evolution == "agru":
            update = a_FN1
        else:
            update = (x_u[0] + s_u[0]).sigmoid()
            if self.evolution == "augru":
                update = a_FN1 * update
            elif self.evolution == "published":
                update = update + a_FN1 * (1 - update)
        return torch.lerp(state_FND, c, update)
