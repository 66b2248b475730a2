"""Fine-tunes a real language model with its optimizer states in a store on disk. `--help` lists the options.

The part that matters is `start` below: orlop.initialize, and in finetune/training.py engine.backward and engine.step.
"""

from __future__ import annotations

import signal
import sys
import time
from argparse import Namespace
from typing import Any

import orlop
import torch
from finetune import live, model, options, overhead, resume, summary, text, training

PROMPT = "The engineer closed the laptop, walked out of the office, and"
SAMPLE_TOKENS = 60
INTERRUPTED = 128 + signal.SIGINT


def start(chosen: Namespace, network: Any, pace: training.Pace) -> orlop.Engine:
    """The engine: from here on parameters are views of its memory and the states are where the configuration says."""
    schedule = lambda optimizer: torch.optim.lr_scheduler.LambdaLR(optimizer, pace.learning_rate)  # noqa: E731
    engine, *_ = orlop.initialize(model=network, config=chosen.config, lr_scheduler=schedule)
    return engine


def main() -> int:
    chosen = options.parse()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # both end it in order
    torch.manual_seed(chosen.seed)
    try:
        network, tokenizer = model.load(options.CACHE)
        corpus = text.load(tokenizer, chosen.seq, options.CACHE)
        show_sample("before", network, tokenizer, chosen.seed)
        pace = training.Pace(chosen.steps, chosen.minutes)
        engine = start(chosen, network, pace)
        progress = resume.Progress(options.CACHE / "checkpoint", chosen)
    except KeyboardInterrupt:
        return INTERRUPTED
    except orlop.OrlopError as error:
        print(f"finetune: {error}", file=sys.stderr)
        return 1
    with engine:
        outcome = run(chosen, engine, corpus, pace, progress)
    if outcome.was_interrupted:
        finish(chosen, outcome)
        return INTERRUPTED
    show_sample("after", network, tokenizer, chosen.seed)
    outcome.hook_seconds = overhead.seconds_per_gradient()
    finish(chosen, outcome)
    return 0


def run(
    chosen: Namespace, engine: orlop.Engine, corpus: text.Corpus, pace: training.Pace, progress: resume.Progress
) -> summary.Outcome:
    """Trains to the end or to Ctrl-C, going on with what an interrupted run came to."""
    was_interrupted = False
    pace.begin = time.monotonic()
    history = progress.load(engine, pace)
    begin = pace.begin
    try:
        with live.display(pace) as show:

            def note_step(now: training.History) -> None:
                show(now)
                if len(now.steps) % resume.EVERY == 0:
                    progress.save(engine, now, pace)

            training.train(engine, corpus, pace, chosen.seed, history, note_step)
        progress.clear()
    except KeyboardInterrupt:
        was_interrupted = True
        if engine.is_open and history.steps:  # else it was interrupted within an update: the last checkpoint counts
            progress.save(engine, history, pace)
    return summary.Outcome(
        history=history,
        peak_process_bytes=summary.peak_process_bytes(),
        training_seconds=time.monotonic() - begin,
        was_interrupted=was_interrupted,
        gradients_per_step=sum(p.requires_grad for p in engine.parameters()),
    )


def show_sample(when: str, network: Any, tokenizer: Any, seed: int) -> None:
    written = model.continue_text(network, tokenizer, PROMPT, SAMPLE_TOKENS, seed)
    print(f"\n{when.capitalize()} training, the model continues:\n  {written}\n", flush=True)


def finish(chosen: Namespace, outcome: summary.Outcome) -> None:
    print("\n" + summary.text(outcome))
    for file in summary.save(outcome, chosen.out):
        print(f"wrote {file}")


if __name__ == "__main__":
    sys.exit(main())
