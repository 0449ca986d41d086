"""Every error a caller can meet, by what can be done about it.

SessionFixError
├── UsageError                  wrong flag, setting or argument: fix the command                    exit 2
├── EnvironmentUnavailableError something this machine lacks: install or start it                   exit 3
│   ├── NoServerError           no PostgreSQL to test against
│   │   └── DamagedClusterError a kept cluster that cannot be unpacked: it is made again
│   ├── NoRestError             no data API in front of it
│   ├── DatabaseUnreadableError the database to audit does not answer, or lets nothing be read
│   ├── ArchiveError            a failed test's database cannot be kept, or not be opened again
│   └── ProcessEndedError       a process of ours ended or never became ready; carries its last lines
├── RolloutError                the database that a rollout is for
│   ├── RolloutRefusedError     it is not one that this may be done to; nothing was changed              exit 2
│   ├── RolloutBusyError        others hold what a step needs; what was done is kept, a rerun goes on     exit 3
│   ├── StepFailedError         the database refused a step; what was done before it is kept             exit 1
│   ├── StaleApiError           all steps are done, the data API does not serve what they leave: restart it  exit 3
│   └── RolloutInterruptedError somebody stopped it; what was done is kept, a rerun goes on            exit 130
├── ServerChangedError          a test changed the server that all tests share: it has to undo that  exit 3
├── UnnoticedTracesError        a test left something that was noticed too late: isolate it by a clone    exit 3
├── MigrationIncompleteError    alembic reported success over a schema that is not there             exit 3
└── ServiceError                the service under test: its owner has to look                       exit 3
    ├── ServiceNotLoadedError   its directory, interpreter or a required layer cannot be loaded
    └── ServiceHungError        a call had no outcome within its deadline
"""


class SessionFixError(Exception):
    """Base of all errors this package raises on purpose; ``exit_code`` is what the command line ends with."""

    exit_code = 3


class UsageError(SessionFixError):
    """The command, a flag or a setting is wrong; nothing was done."""

    exit_code = 2


class EnvironmentUnavailableError(SessionFixError):
    """This machine lacks something; the message names what was tried and how to get it."""


class NoServerError(EnvironmentUnavailableError):
    """No PostgreSQL server could be had."""


class DamagedClusterError(NoServerError):
    """A cluster from the cache could not be unpacked."""


class NoRestError(EnvironmentUnavailableError):
    """No data API could be had."""


class DatabaseUnreadableError(EnvironmentUnavailableError):
    """A database that somebody else runs cannot be reached or read."""


class ArchiveError(EnvironmentUnavailableError):
    """A database could not be written or read back; carries the last lines of the program that failed."""


class ProcessEndedError(EnvironmentUnavailableError):
    """A process ended, or did not become ready in time; the message carries the last lines it wrote."""


class RolloutError(SessionFixError):
    """A rollout or a repair cannot go on."""


class RolloutRefusedError(RolloutError):
    """The database, the role or the way to it is none that a rollout may change; nothing was done."""

    exit_code = 2


class RolloutBusyError(RolloutError):
    """What a step needs was not to be had within its tries; the message names who holds it."""


class StepFailedError(RolloutError):
    """The database refused a step; the message holds the SQLSTATE and what to do, never a row."""

    exit_code = 1


class StaleApiError(RolloutError):
    """All is done, and the data API does not serve it; the message holds what it last answered, never a key."""


class RolloutInterruptedError(RolloutError):
    """A rollout was stopped by a signal; the message says where the database is."""

    exit_code = 130


class ServerChangedError(SessionFixError):
    """A test changed the server itself, and that cannot be put back for the tests that follow."""


class UnnoticedTracesError(SessionFixError):
    """A test left something in a recycled database, and kept PostgreSQL from counting it."""


class MigrationIncompleteError(SessionFixError):
    """Alembic reported success, but the database is not at the head revision or lacks a table."""


class ServiceError(SessionFixError):
    """The service under test could not be used."""


class ServiceNotLoadedError(ServiceError):
    """The service directory, its interpreter or a required layer cannot be loaded."""


class ServiceHungError(ServiceError):
    """A call to the service had no outcome within its deadline."""
