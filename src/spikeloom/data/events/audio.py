"""Sound to spikes: a model of the cochlea.

Filter bank   channel c is a gammatone of order 4 at f_c: with ERB = 24.7 (0.00437 f_c + 1)
                  g(t) = t^3 exp(-2 pi 1.019 ERB t) cos(2 pi f_c t),
              scaled to gain 1 at f_c; the f_c lie evenly on the ERB-rate scale.
Hair cells    r = max(y, 0)^(1/4), then a low-pass of first order at 1 kHz.
Ganglion      leaky integrate-and-fire: tau dv/dt = -v + gain r; a spike at v >= 1, then v = 0 for
              the refractory time.

The sound's mean square is 1 before the filters, so that loudness does not matter. Spikes have the
layout of SHD: channel 0 is the lowest frequency. Sources: Patterson et al. 1992, Glasberg & Moore
1990; a plainer model than SHD's own (Cramer et al. 2020), which has a basilar membrane and bushy
cells.
"""

import io
import wave
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from spikeloom.data.events.array import Events, spikes
from spikeloom.errors import DataError

Signal = npt.NDArray[np.float32]
LONGEST = 600  # seconds of sound that are taken in one piece


@dataclass(frozen=True)
class Cochlea:
    """Constants of the model.

    channels     filters, and channels of the spikes
    sample_rate  Hz at which the model runs; sound at another rate is filtered and interpolated
    low, high    Hz, the lowest and highest centre frequency; `high` must lie below half the sample
                 rate
    gain         current per unit of hair cell output, in thresholds: more gain, more spikes
    tau          seconds, membrane time constant
    refractory   seconds after a spike without another
    """

    channels: int = 700
    sample_rate: int = 8000
    low: float = 60.0
    high: float = 3500.0
    gain: float = 4.0
    tau: float = 0.010
    refractory: float = 0.002

    def __post_init__(self) -> None:
        if not 1 <= self.channels <= 4096 or self.sample_rate < 1:
            raise DataError(
                f"channels = {self.channels}, sample_rate = {self.sample_rate}: "
                "give 1 to 4096 channels and a positive rate"
            )
        if not 0 < self.low <= self.high < self.sample_rate / 2:
            raise DataError(
                f"low = {self.low}, high = {self.high}: give frequencies above 0 and below half "
                f"the sample rate, {self.sample_rate / 2} Hz"
            )
        if min(self.gain, self.tau) <= 0 or self.refractory < 0:
            raise DataError("gain and tau must be above 0, and refractory not below 0")

    def frequencies(self) -> npt.NDArray[np.float64]:
        """Centre frequency of every channel in Hz, rising."""
        scale = 1000 / (24.7 * 4.37)  # ERB rate: the integral of 1 / ERB(f)
        low, high = (scale * np.log1p(0.00437 * f) for f in (self.low, self.high))
        return np.expm1(np.linspace(low, high, self.channels) / scale) / 0.00437

    def spikes(self, sound: npt.ArrayLike, rate: int, *, source: object = "sound") -> Events:
        """Spikes of a sound [samples] recorded at `rate` Hz; microseconds from its start."""
        signal = np.asarray(sound, np.float32)
        if signal.ndim != 1 or not np.isfinite(signal).all():
            raise DataError(f"{source}: a sound must be one row of finite samples")
        if len(signal) > LONGEST * rate:
            raise DataError(f"{source}: longer than {LONGEST} s; cut it into pieces")
        if rate != self.sample_rate and len(signal):
            signal = _low_pass(signal, rate, self.sample_rate)
            count = round(len(signal) * self.sample_rate / rate)
            places = np.arange(count) * (rate / self.sample_rate)
            signal = np.interp(places, np.arange(len(signal)), signal).astype(np.float32)
        power = float(np.mean(signal**2)) if len(signal) else 0.0
        if power == 0:
            return spikes([], [], self.channels, source=source)
        fired = self._ganglion(self._hair_cells(signal / np.sqrt(power)))
        step, channel = np.nonzero(fired)
        return spikes(step * 1_000_000 // self.sample_rate, channel, self.channels, source=source)

    def _hair_cells(self, signal: Signal) -> Signal:
        """Rectified and compressed filter outputs [samples, channels]."""
        count = len(signal)
        length = 1 << (count + self.sample_rate // 10 - 1).bit_length()
        spectrum = np.fft.rfft(signal, length)
        out = np.empty((count, self.channels), np.float32)
        for start in range(0, self.channels, 64):  # in groups, so that the memory stays small
            some = slice(start, start + 64)
            heard = np.fft.irfft(_filters(self, length)[some] * spectrum, length)[:, :count]
            out[:, some] = np.sqrt(np.sqrt(np.maximum(heard, 0))).T
        return out

    def _ganglion(self, current: Signal) -> npt.NDArray[np.bool_]:
        """Spikes [samples, channels]."""
        step = 1 / self.sample_rate
        smooth = np.float32(1 - np.exp(-2 * np.pi * 1000 * step))
        leak = np.float32(1 - np.exp(-step / self.tau))
        rest = round(self.refractory * self.sample_rate)
        fired = np.zeros(current.shape, bool)
        r = np.zeros(self.channels, np.float32)
        v = np.zeros(self.channels, np.float32)
        for now in range(len(current)):
            r += smooth * (current[now] - r)
            v += leak * (np.float32(self.gain) * r - v)
            np.greater_equal(v, 1, out=fired[now])
            v[fired[max(now - rest, 0) : now + 1].any(0)] = 0
        return fired


def read_wav(data: bytes, source: object = "WAV data") -> tuple[Signal, int]:
    """Samples [n] in -1..1 and the rate in Hz of a PCM WAV file; channels are averaged."""
    try:
        with wave.open(io.BytesIO(data)) as file:
            channels, width, rate, claimed = file.getparams()[:4]
            raw = file.readframes(claimed)
    except (wave.Error, EOFError, ValueError, RuntimeError) as error:
        raise DataError(f"{source}: no PCM WAV file ({error}); convert it to 16-bit PCM") from error
    if len(raw) != claimed * channels * width:
        raise DataError(
            f"{source}: {len(raw)} bytes of samples, {claimed * channels * width} are claimed; "
            "the file is cut short"
        )
    if not (1 <= rate <= 1_000_000 and 1 <= width <= 4 and 1 <= channels <= 64):
        raise DataError(
            f"{source}: {rate} Hz, {channels} channels of {width} bytes; the file is damaged"
        )
    if width == 1:  # 8 bits are unsigned
        values = np.frombuffer(raw, np.uint8).astype(np.float32) / 128 - 1
    elif width == 3:
        wide = np.zeros((len(raw) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(raw, np.uint8).reshape(-1, 3)
        values = wide.view("<i4")[:, 0].astype(np.float32) / (1 << 31)
    else:
        values = np.frombuffer(raw, f"<i{width}").astype(np.float32) / (1 << (8 * width - 1))
    return values.reshape(-1, channels).mean(1), rate


def _low_pass(signal: Signal, rate: int, new_rate: int) -> Signal:
    """The signal without what lies above half the new rate: it would come back as lower tones.

    Everything passes up to 0.45 of the new rate, nothing above 0.5, a cosine in between.
    """
    if rate <= new_rate:
        return signal
    length = 1 << (len(signal) + rate // 10 - 1).bit_length()
    share = np.fft.rfftfreq(length, 1 / rate) / new_rate
    gain = 0.5 + 0.5 * np.cos(np.pi * np.clip((share - 0.45) / 0.05, 0, 1))
    whole = np.fft.irfft(np.fft.rfft(signal, length) * gain, length)
    return whole[: len(signal)].astype(np.float32)


@lru_cache(maxsize=8)
def _filters(cochlea: Cochlea, length: int) -> npt.NDArray[np.complex64]:
    """Spectra [channels, length // 2 + 1] of the impulse responses, gain 1 at the centre."""
    t = np.arange(length) / cochlea.sample_rate
    spectra = np.empty((cochlea.channels, length // 2 + 1), np.complex64)
    for channel, f in enumerate(cochlea.frequencies()):
        width = 24.7 * (0.00437 * f + 1)
        response = t**3 * np.exp(-2 * np.pi * 1.019 * width * t) * np.cos(2 * np.pi * f * t)
        spectrum = np.fft.rfft(response)
        spectra[channel] = spectrum / np.abs(spectrum).max()
    return spectra
