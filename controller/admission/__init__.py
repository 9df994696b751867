"""What may be written: current objects and wanted ones in, a plan or refusals out. Pure."""

from controller.admission.admit import admit, create, remove
from controller.admission.plan import AdmissionError, Plan, Refusal, Rules, Write

__all__ = ["AdmissionError", "Plan", "Refusal", "Rules", "Write", "admit", "create", "remove"]
