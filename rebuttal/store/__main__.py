"""`python -m rebuttal.store`; what it does is in `rebuttal.store.commands`."""

from rebuttal.errors import check_working_directory, exit_if_user_error


def main() -> None:
    """Run from the command line."""
    try:
        check_working_directory()
    except Exception as error:
        exit_if_user_error(error)
        raise
    # Only now, because they import torch, which ends a process whose working directory is gone.
    from rebuttal.store.commands import main as start

    start()


if __name__ == "__main__":
    main()
