"""Adan (Xie et al., "Adan: Adaptive Nesterov Momentum Algorithm", arXiv 2208.06677, Algorithm 1).

With g_k the gradient, d_k = g_k - g_{k-1} (d_1 = 0) and b1, b2, b3 the shares that are kept:

    m_k = b1 m_{k-1} + (1 - b1) g_k
    v_k = b2 v_{k-1} + (1 - b2) d_k
    n_k = b3 n_{k-1} + (1 - b3) (g_k + b2 d_k)^2
    theta <- (theta - rate (m_k + b2 v_k) / (sqrt(n_k) + eps)) / (1 + rate decay)

The paper's betas are what is taken in, 1 - b here. As in Adam, m, v and n begin at 0 and are
divided by 1 - b^k, so that the first steps are as long as the others; there are no restarts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError


class Adan(torch.optim.Optimizer):
    """Adan with decoupled weight decay and a limit on the norm of the whole gradient."""

    moments = ("exp_avg", "exp_avg_diff", "exp_avg_sq", "before")  # kept for each weight

    def __init__(
        self,
        params: Iterable[Any],  # weights, or groups of them, each with an "lr" of its own
        lr: float,
        *,
        betas: tuple[float, float, float] = (0.98, 0.92, 0.99),  # kept of m, v and n
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        max_norm: float = 0.0,  # longer gradients are shortened to it; 0 for no limit
    ) -> None:
        if not lr > 0 or eps <= 0 or weight_decay < 0 or max_norm < 0:
            raise InputError(
                "Adan needs lr and eps above 0, weight_decay and max_norm of at least 0, got "
                f"{lr}, {eps}, {weight_decay}, {max_norm}"
            )
        if len(betas) != 3 or not all(0 <= beta < 1 for beta in betas):
            raise InputError(f"Adan's betas must be three numbers from 0 to below 1, got {betas}")
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay))
        self.max_norm = max_norm

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step; a weight without a gradient stays as it is."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        share = self._share()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    _advance(weight, weight.grad * share, self.state[weight], group)
        return loss

    def _share(self) -> Tensor:
        """Return what every gradient is multiplied by, so that none exceeds the limit."""
        grads = [p.grad for group in self.param_groups for p in group["params"]]
        norm = torch.stack([g.norm() for g in grads if g is not None] or [torch.zeros(())]).norm()
        if not self.max_norm:
            return torch.ones_like(norm)
        return (self.max_norm / norm.clamp_min(1e-12)).clamp_max(1.0)


def _advance(weight: Tensor, grad: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> None:
    """Change one weight and its statistics."""
    if not state:
        state["step"] = torch.zeros(())
        state |= {name: torch.zeros_like(weight) for name in Adan.moments[:3]}
        state["before"] = grad.clone()
    b1, b2, b3 = group["betas"]
    state["step"] += 1
    count = int(state["step"])
    change = grad - state["before"]
    state["exp_avg"].lerp_(grad, 1 - b1)
    state["exp_avg_diff"].lerp_(change, 1 - b2)
    ahead = grad + b2 * change
    state["exp_avg_sq"].mul_(b3).addcmul_(ahead, ahead, value=1 - b3)
    state["before"].copy_(grad)
    spread = (state["exp_avg_sq"] / (1 - b3**count)).sqrt_().add_(group["eps"])
    mean = state["exp_avg"] / (1 - b1**count)
    mean.add_(state["exp_avg_diff"], alpha=b2 / (1 - b2**count))
    weight.addcdiv_(mean, spread, value=-group["lr"]).div_(1 + group["lr"] * group["weight_decay"])
