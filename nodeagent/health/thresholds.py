"""When a port changes from healthy to unhealthy and back. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from meshapi.resources.traffic import HealthCheck


@dataclass(frozen=True)
class Health:
    """A port's health, and how many answers in a row have said otherwise.

    It is ``known`` once it was asked; before that it is as it was left, and the first answer counts
    by itself: nobody waits for a threshold to learn how a new workload is.
    """

    healthy: bool = True
    contrary: int = 0
    known: bool = False

    def after(self, answered: bool, check: HealthCheck) -> Health:
        """The health after one more answer."""
        if answered == self.healthy:
            return Health(self.healthy, 0, known=True)
        needed = check.healthy_threshold if answered else check.unhealthy_threshold
        contrary = self.contrary + 1
        if contrary >= needed or not self.known:
            return Health(answered, 0, known=True)
        return Health(self.healthy, contrary, known=True)
