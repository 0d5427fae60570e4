"""V against many draws, and what was seen against what it was made of."""

import math
import random

import pytest

from isample.control.base import Choices, Settings
from isample.control.noise import Noise, NoiseState, growth
from isample.values import KEEP_FRACTIONS, Moments, Observation, Thinning

B, SIZE = 40, 8


def inclusion(x, keep):
    """min(1, c x) with sum ``keep``, by bisection in c."""
    low, high = 0.0, keep / min(x)
    for _ in range(60):
        c = (low + high) / 2
        low, high = (c, high) if sum(min(1.0, c * one) for one in x) < keep else (low, c)
    return [min(1.0, high * one) for one in x]


def thinning_of(x):
    parts = [
        sum(one**2 / p for one, p in zip(x, inclusion(x, f * len(x)))) / len(x)
        for f in KEEP_FRACTIONS
    ]
    return Thinning(sum(one**2 for one in x) / len(x), tuple(parts))


def scores(generator, count, width=1.0):
    return [generator.lognormvariate(0.0, width) for _ in range(count)]


def noise_of(**choices):
    return Noise(Choices(SIZE, True, (16, B), True, **choices), Settings())


def seen(noise, *observations):
    state = NoiseState()
    for observation in observations:
        state = noise.observe(state, observation)
    return state


def test_growth_is_exact_where_it_was_measured_and_close_between():
    x = scores(random.Random(0), 4096)
    thinning = thinning_of(x)
    for fraction, part in zip(KEEP_FRACTIONS, thinning.parts):
        assert growth(thinning, fraction) == pytest.approx(part / thinning.whole)
    assert growth(thinning, 1.0) == 1.0
    for fraction in (0.1, 0.2, 0.3, 0.45, 0.6, 0.9):
        exact = sum(one**2 / p for one, p in zip(x, inclusion(x, fraction * len(x))))
        assert growth(thinning, fraction) == pytest.approx(
            exact / len(x) / thinning.whole, rel=0.03
        )
    at_least = growth(thinning, KEEP_FRACTIONS[0])
    assert growth(thinning, KEEP_FRACTIONS[0] / 2) == pytest.approx(2 * at_least)


@pytest.mark.parametrize("recalled", [False, True])
@pytest.mark.parametrize("keep", [SIZE, 2])
def test_noise_of_scored_candidates_is_that_of_many_draws(recalled, keep):
    """Gradients are independent and of random sign, so second moments are the noise. B candidates,
    dealt or drawn by stale scores, each kept with its inclusion probability."""
    generator, noise = random.Random(1), noise_of()
    population = scores(generator, 500)
    stale = [g * generator.lognormvariate(0.0, 0.6) for g in population]
    chances = stale if recalled else [1.0] * len(population)
    total, second, observations, rounds = sum(chances), 0.0, [], 1500
    for count in range(rounds):
        places = generator.choices(range(500), chances, k=B)
        weights = [total / (500 * chances[i]) for i in places]
        x = [w * population[i] for w, i in zip(weights, places)]
        estimate = sum(
            one * generator.choice((-1, 1)) / p
            for one, p in zip(x, inclusion(x, keep))
            if generator.random() < p
        )
        second += (estimate / B) ** 2 / rounds
        if count < 400:
            squares = [one**2 for one in x]
            dealt = sum(square / w for square, w in zip(squares, weights)) / B
            moments = Moments(sum(x) / B, dealt, sum(squares) / B, min(weights), max(weights))
            observations.append(
                Observation(1.0, memory=moments, thinning=thinning_of(x), by_memory=recalled)
            )
    uniform = sum(g**2 for g in population) / 500 / SIZE
    slow = Noise(noise.choices, Settings(decay=0.998))  # 400 steps together
    state = seen(slow, *observations)
    # 1500 squares of a nearly normal estimate: sqrt(2 / 1500) = 3.7 %; the moments: some 3 %.
    assert slow.of_scored(state, recalled, B, keep) == pytest.approx(second / uniform, rel=0.12)


def test_draws_with_replacement_add_their_noise_to_the_candidates():
    noise = noise_of(with_replacement=True)
    state = seen(noise, *[Observation(1.0, tau=2.0)] * 20)
    assert noise.of_scored(state, False, B, SIZE) == pytest.approx(SIZE / B + 1 / 4)
    assert noise.of_scored(state, False, B, SIZE // 2) == pytest.approx(SIZE / B + 2 / 4)


def test_draws_by_memory_are_worth_what_their_moments_say():
    noise, moments = noise_of(), Moments(1.0, 6.0, 2.0, 0.1, 3.0)
    state = NoiseState()
    for count in range(20):
        assert math.isnan(noise.of_memory(state, SIZE)) == (count < 11), count
        state = noise.observe(state, Observation(1.0, memory=moments))
    assert noise.of_memory(state, SIZE) == pytest.approx(1 / 3)
    assert noise.of_memory(state, SIZE // 4) == pytest.approx(4 / 3)
    drawn = Observation(1.0, memory=moments, by_memory=True, kept=SIZE // 2)
    assert noise.gain(state, drawn) == pytest.approx(3 / 2)
    assert noise.gain(state, Observation(1.0, kept=SIZE)) == 1.0


def test_a_memory_that_has_not_seen_an_epoch_foretells_nothing():
    noise, moments = noise_of(), Moments(1.0, 6.0, 2.0, 0.1, 3.0)
    state = seen(noise, *[Observation(1.0, memory=moments, informed=False)] * 50)
    assert math.isnan(noise.memory_gain(state))


def test_what_was_not_seen_for_long_is_not_known():
    noise, moments = noise_of(), Moments(1.0, 6.0, 2.0, 0.1, 3.0)
    state = seen(noise, *[Observation(1.0, memory=moments)] * 100)
    assert noise.memory_gain(state) == pytest.approx(3.0)
    state = seen(noise, *[Observation(1.0, memory=moments)] * 100, *[Observation(1.0)] * 100)
    assert math.isnan(noise.memory_gain(state))


@pytest.mark.parametrize("found", [1.0, 1.5])
def test_scores_that_are_too_coarse_are_found_out(found):
    """The batches drawn are ``found`` times as noisy as their candidates foretell."""
    noise, x = noise_of(), scores(random.Random(2), B)
    thinning = thinning_of(x)
    left = SIZE / B * growth(thinning, SIZE / B)
    step = Observation(
        1.0,
        thinning=thinning,
        fresh=Moments(1.0, 3.0, 3.0 * left * found, 0.1, 3.0),
        scored=B,
        kept=SIZE,
    )
    state = seen(noise, *[step] * 400)
    # Draws that come to 50 are weighed against 10 that say 1.
    assert noise.coarseness(state) == pytest.approx((50 * found + 9.6) / 59.6, rel=0.01)
    assert noise.of_scored(state, False, B, SIZE) == pytest.approx(
        noise.coarseness(state) * left, rel=1e-6
    )


def test_observing_changes_no_state_that_was_given():
    noise = noise_of()
    state = seen(noise, *[Observation(1.0, memory=Moments(1.0, 2.0, 1.0, 1.0, 1.0))] * 5)
    before = tuple(state)
    noise.observe(state, Observation(1.0, memory=Moments(1.0, 9.0, 1.0, 1.0, 1.0)))
    assert tuple(state) == before
