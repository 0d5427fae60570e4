"""What is made of the images that were read: spoiled variants, permuted pixels, augmentation."""

import math

import numpy as np
import pytest
import torch

from bench.common.datasets import ImageDataset, spread
from bench.common.images import Images
from bench.common.sets import friedman, imbalanced, noisy_labels, permutation, pixel_rows


def images(count=2000):
    labels = np.arange(count) % 10
    pixels = np.zeros((count, 8, 8, 1), np.uint8)
    return Images(pixels, labels, pixels[:50], labels[:50])


def test_noisy_labels_are_wrong_in_a_fifth_and_the_test_s_are_not():
    clean, noisy = images(20_000), noisy_labels(images(20_000))
    changed = clean.y_train != noisy.y_train
    assert changed.sum() == 4000 and np.array_equal(clean.y_test, noisy.y_test)
    offsets = np.bincount((noisy.y_train - clean.y_train)[changed] % 10, minlength=10)
    # 4,000 over nine offsets: 444 each, standard deviation 19.9
    assert (
        offsets[0] == 0
        and offsets[1:].min() > 444 - 4 * 19.9
        and offsets[1:].max() < 444 + 4 * 19.9
    )
    assert np.array_equal(noisy.y_train, noisy_labels(images(20_000)).y_train)


def test_imbalanced_classes_fall_geometrically():
    counts = np.bincount(imbalanced(images()).y_train)
    assert counts.tolist() == [math.ceil(200 * 100 ** (-c / 9)) for c in range(10)]
    assert counts[0] == 200 and counts[9] == 2


def test_friedman_s_noise_floor_is_four_percent():
    """The best predictor, the noise-free function, leaves the share of the variance that the title
    states."""
    test = friedman(training=1000, test=20_000).test
    x = test.inputs.numpy() / math.sqrt(12) + 0.5
    best = (
        10 * np.sin(np.pi * x[:, 0] * x[:, 1])
        + 20 * (x[:, 2] - 0.5) ** 2
        + 10 * x[:, 3]
        + 5 * x[:, 4]
    )
    y = test.targets[:, 0].numpy()
    slope, offset = np.polyfit(best, y, 1)
    # 1 / var(y), var(y) = 24.8 +- 2 %: an estimate of a ratio of variances from 20,000 samples is
    # good to 2 %
    assert np.mean((slope * best + offset - y) ** 2) == pytest.approx(0.040, rel=0.1)


def test_pixels_are_permuted_once_for_all():
    order = permutation(784)
    assert sorted(order) == list(range(784)) and order[:5].tolist() == [693, 85, 647, 392, 765]
    pixels = np.arange(784, dtype=np.uint16).reshape(1, 28, 28, 1).repeat(2, 0)
    inputs, targets = pixel_rows(pixels, np.array([3, 4])).__getitems__([1])
    assert inputs.shape == (1, 784, 1) and targets.tolist() == [4]
    assert torch.equal(inputs[0, :, 0], torch.from_numpy(order / 255).float())


def test_augmentation_follows_torch_s_generator():
    pixels = np.random.default_rng(0).integers(256, size=(100, 8, 8, 3), dtype=np.uint8)
    moments = torch.zeros(3), torch.ones(3)
    data = ImageDataset(pixels, np.arange(100) % 10, moments, 4)
    torch.manual_seed(5)
    first, other = data.__getitems__([1, 2, 3])[0], data.__getitems__([1, 2, 3])[0]
    torch.manual_seed(5)
    again = data.__getitems__([1, 2, 3])[0]
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert len(spread(data, 30)) == 25 and spread(data, 30).indices[-1] == 96


def test_augmentation_shifts_and_mirrors():
    """Each augmented image must be one of the 2 x 5 x 5 that shifting by up to 2 pixels and
    mirroring can give."""
    pixels = np.random.RandomState(2).randint(1, 256, (1, 8, 8, 3)).astype(np.uint8)
    moments = (torch.zeros(3), torch.ones(3))
    dataset = ImageDataset(pixels, np.zeros(1, np.int64), moments, shift=2)
    torch.manual_seed(0)
    possible = {}
    padded = np.pad(pixels[0], ((2, 2), (2, 2), (0, 0)))
    for down in range(5):
        for right in range(5):
            window = padded[down : down + 8, right : right + 8]
            possible[window.tobytes()] = possible[window[:, ::-1].tobytes()] = (down, right)
    inputs, _ = dataset.__getitems__([0] * 1000)
    seen = {image.permute(1, 2, 0).numpy().astype(np.uint8).tobytes() for image in inputs}
    # All 50 are seen: one of them is missed by 1,000 draws with probability 50 * (49/50)^1000 <
    # 1e-7.
    assert seen == set(possible)


def test_images_of_one_channel_are_read_whole():
    """An added axis of length 1 has a stride of 0, which is not the distance between pixels."""
    pixels = np.random.default_rng(0).integers(0, 256, (6, 5, 4), dtype=np.uint8)
    moments = torch.tensor([100.0]), torch.tensor([50.0])
    for channel in (pixels[..., None], np.broadcast_to(pixels[..., None], (6, 5, 4, 1))):
        dataset = ImageDataset(channel, np.zeros(6, np.int64), moments)
        inputs, _ = dataset.__getitems__([2, 5])
        expected = (torch.from_numpy(pixels[[2, 5]]).float() - 100.0) / 50.0
        torch.testing.assert_close(inputs[:, 0], expected)
