"""The suite of checks that every family must pass, for tests of families of your own: `check_family(MyGan)`."""

from gan_core.testing.check import check_family, faults_of
from gan_core.testing.fault import FamilyError, Fault

__all__ = ["FamilyError", "Fault", "check_family", "faults_of"]
