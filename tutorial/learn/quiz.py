"""`predict` and `break`: a question is answered before the run, the answer is kept, and then marked.

A prediction is marked when the chapter is green. A bug of the museum is planted in a copy of the reference, and the
learner's guess is the test that will find it; the learner's own files are not touched.
"""

from __future__ import annotations

import random
import re
import tempfile
from pathlib import Path

from tutorial.learn import check, screen, tree
from tutorial.learn.course import REPOSITORY, Chapter, Mutant, Prediction
from tutorial.learn.errors import LearnError
from tutorial.learn.place import Place
from tutorial.learn.screen import ask, ask_choice, counted, prose, say

__all__ = ["break_it", "mark", "predict"]

OTHERS = 3  # tests of a menu besides the right one


def predict(place: Place, number: int | None, answers: list[str]) -> None:
    """Asks the chapter's questions that are not answered yet; `answers` are taken in order in place of typed ones."""
    chapter = place.chapter(number)
    if not chapter.predictions:
        say(f"Chapter {chapter.number} asks for no prediction.")
        return
    given = 0
    for position, prediction in enumerate(chapter.predictions, 1):
        key = f"{chapter.number}.{position}"
        if key in place.state.predictions:
            say(f"{position}. {prediction.question}\n   You said: {place.state.predictions[key]}")
            continue
        say(f"{position}. {prediction.question}")
        answer = _checked(prediction, answers.pop(0)) if answers else _asked(prediction)
        if answer is not None:
            place.state.predictions[key] = answer
            given += 1
            say("   Kept.")
    if given:
        place.save(f"Chapter {chapter.number}: {counted(given, 'prediction')}")
    if chapter.number in place.state.green:
        mark(place, chapter)
    elif len(_answered(place, chapter)) == len(chapter.predictions):
        say(f"They are marked when chapter {chapter.number} is green.")
    else:
        say(f'Answer at a terminal, or with `metcd learn predict {chapter.number} --answer "..."`.')


def _asked(prediction: Prediction) -> str | None:
    if prediction.choices:
        return ask_choice(prediction.choices)
    for _ in range(5):
        typed = ask("Your answer (a number; Enter for none):")
        if not typed:
            return None
        try:
            return _checked(prediction, typed)
        except LearnError as error:
            say(str(error))
    return None


def _checked(prediction: Prediction, answer: str) -> str:
    """The answer as it is kept. Raises LearnError if it can't be one."""
    if prediction.choices:
        if answer in prediction.choices:
            return answer
        if answer.isascii() and answer.isdigit() and 1 <= int(answer) <= len(prediction.choices):
            return prediction.choices[int(answer) - 1]
        raise LearnError(f"{answer!r} is none of the choices: {', '.join(prediction.choices)}")
    try:
        float(answer)
    except ValueError:
        raise LearnError(f"{answer!r} is not a number") from None
    return answer


def _answered(place: Place, chapter: Chapter) -> list[str]:
    return [key for key in place.state.predictions if key.startswith(f"{chapter.number}.")]


def mark(place: Place, chapter: Chapter) -> None:
    """Says what was right, and why."""
    for position, prediction in enumerate(chapter.predictions, 1):
        answer = place.state.predictions.get(f"{chapter.number}.{position}")
        if answer is None:
            continue
        say()
        say(f"{position}. {prediction.question}")
        if prediction.right(answer):
            say(f"   You said {answer}: right.", "green")
        else:
            say(f"   You said {answer}. It is {_told(prediction)}.", "yellow")
        prose(prediction.because, "   ")
        say(f"   Shown by {prediction.test}.")
    if len(_answered(place, chapter)) < len(chapter.predictions):
        say(f"Not everything was predicted: `metcd learn predict {chapter.number}` still asks.")


def _told(prediction: Prediction) -> str:
    if isinstance(prediction.answer, str):
        return prediction.answer
    return f"{prediction.answer:g}" + (f" (±{prediction.within:g})" if prediction.within else "")


# ---- the museum -------------------------------------------------------------------------------------------------------


def break_it(
    place: Place, number: int | None, name: str | None, *, guess: str | None = None, anyway: bool = False
) -> None:
    """Plants a bug in a copy of the reference, and runs the chapter's tests on it."""
    chapter = place.chapter(number)
    mutant = _chosen(place, chapter, name)
    unwritten = place.unwritten(chapter)
    if unwritten and not anyway:
        raise LearnError(
            f"{unwritten[0].name} is not written yet, and a planted bug shows a piece of the solution: "
            f"`metcd learn break {chapter.number} {mutant.name} --anyway` does it all the same"
        )
    function = mutant.function.partition("::")[2]
    say(f"{mutant.name}: a bug is planted in {function}. Which test of chapter {chapter.number} finds it?", "bold")
    guessed = guess or ask_choice(_menu(chapter, mutant))
    failed = _run(place, mutant, chapter)
    say()
    say(f"{counted(len(failed), 'test')} {'is' if len(failed) == 1 else 'are'} red:")
    for test in failed:
        say(f"  {test}", "red")
    if guessed is not None:
        right = any(test.partition("[")[0] == guessed for test in failed)
        say("You guessed one of them." if right else f"You guessed {guessed}, which is green.")
        place.state.museum[mutant.name] = guessed
        place.save(f"Chapter {chapter.number}: {mutant.name} was looked at")
    say()
    prose(mutant.story)
    say()
    owned, changed = tree.mutate(place.course, mutant)
    screen.differences(tree.reference(owned), changed, owned.name)
    left = [other.name for other in chapter.mutants if other.name not in place.state.museum and other is not mutant]
    if left:
        say()
        say(f"Next: metcd learn break {chapter.number} {left[0]}")


def _chosen(place: Place, chapter: Chapter, name: str | None) -> Mutant:
    """The bug of that name, or the first that was not looked at."""
    for mutant in chapter.mutants:
        if mutant.name == name or (name is None and mutant.name not in place.state.museum):
            return mutant
    names = ", ".join(mutant.name for mutant in chapter.mutants)
    if not names:
        raise LearnError(f"chapter {chapter.number} has no bugs to plant")
    if name is None:
        return chapter.mutants[0]
    raise LearnError(f"chapter {chapter.number} has no bug {name}; it has {names}")


def _menu(chapter: Chapter, mutant: Mutant) -> list[str]:
    """The test that finds it among a few others, always the same ones."""
    chance = random.Random(mutant.name)
    others = [name for name in _tests(chapter) if name != mutant.killed_by]
    menu = [mutant.killed_by, *chance.sample(others, min(OTHERS, len(others)))]
    chance.shuffle(menu)
    return menu


def _tests(chapter: Chapter) -> list[str]:
    texts = [(REPOSITORY / file).read_text("utf-8") for file in chapter.tests]
    return [name for text in texts for name in re.findall(r"^\s*def (test_\w+)\(", text, re.MULTILINE)]


def _run(place: Place, mutant: Mutant, chapter: Chapter) -> list[str]:
    """The names of the tests that fail."""
    with (
        tempfile.TemporaryDirectory(prefix="metcd-break-") as scratch,
        screen.busy("running the chapter's tests on it"),
    ):
        copy = Path(scratch)
        tree.write(place.course, copy, tree.as_done(chapter.number))
        tree.put(copy, [tree.mutate(place.course, mutant)])
        result = check.run(place.course, copy, chapter)
    if result.problem is not None and not result.failed:
        again = f"metcd learn break {chapter.number} {mutant.name}"
        raise LearnError(f"{mutant.name}: {result.problem}\nThe command that repeats this: {again}")
    return [test.name for test in result.failed]
