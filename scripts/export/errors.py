"""Failures that the caller can do something about."""


class ExportError(Exception):
    """Carries a kind that lib/networks/export.ts turns into an error code."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def unsupported(message: str) -> ExportError:
    return ExportError("unsupported", message)


def lint_failure(message: str) -> ExportError:
    return ExportError("lint", message)


def comparison_failure(message: str) -> ExportError:
    return ExportError("comparison", message)
