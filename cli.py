"""The command ``train``: parse the command line, compose and check the config, and start the run.

torch is imported only when a run starts.
"""

from __future__ import annotations

import sys

from trainer.commands.early_interrupt import EarlyInterrupt


def main(words: list[str] | None = None) -> int:
    """Run the command ``train`` and return its exit code; each error is one line on stderr.

    Args:
        words: the arguments of the command; None takes ``sys.argv[1:]``.
    """
    with EarlyInterrupt(ends_process=words is None):
        from trainer.commands.exit_code import TrainExitCode

        with TrainExitCode() as code:
            from trainer.processes import launch, leader
            from trainer.processes.world import current_world

            this = current_world()
            if this is not None and this.rank > 0:
                from trainer import worker

                code.value = worker.follow()
            elif (ended := leader.read_note("ended")) is not None:  # an earlier attempt ended with a final exit code
                code.value = int(ended)
            else:
                from trainer.compose import options

                command = options.parse(sys.argv[1:] if words is None else words)
                if (text := command.text()) is not None:  # --help, --version
                    print(text)
                elif (checked := command.checked) is None:  # --cfg, --info, a sweeper of another package
                    from trainer.sweep.by_hydra import run_hydra

                    run_hydra(command)
                elif checked.is_sweep:
                    from trainer.sweep.start import run_sweep

                    run_sweep(checked)
                elif launch.needs_launch((job := checked.jobs[0]).settings):
                    launch.launch(job)
                else:
                    from trainer.config.terminal import loading

                    with loading():  # imports torch (1.5 s), so the config is checked first
                        from trainer.runner import run
                    run(job)
    return code.value


if __name__ == "__main__":
    sys.exit(main())
