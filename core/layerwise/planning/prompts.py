"""What prompts cost a pipeline that decodes: throughput of a whole workload, and time of a first token.

A prompt takes K passes, one for each of its chunks; g prompts share a pass where so many fit a chunk. Such a
pass carries its share of the decoding sequences, too, and the last of the K yields the first token: a request
of O tokens takes O - 1 places in passes that decode. With C lanes that are taken again as soon as they are
free, and m micro-batches in flight, a request is under way for O m + K - 1 passes, so that a share

    f = min(1, (K / g) C / (O m + K - 1))

of all passes carries prompts. Passes follow each other every (1 - f) P + f X seconds, where P is the period
of passes that only decode (layerwise.planning.pipeline) and X that of passes with prompts, by the same model.
For one lane this is the plain sum: tokens a second = O / ((O - 1) P + K X). Where f is 1, prompts wait for
each other, and fewer sequences decode than there are lanes.

Requests of equal length that begin together end together, and so begin together again: that prompts share
passes, as far as they fit, is what equal requests come to.

A first token takes half a period until the next pass, the passes of the chunks before the last, and the way
of the last one through the pipeline, beside those that decode. What a request then waits between two tokens
is the rest of the time for which it has its lane, by Little's law.
"""

from dataclasses import dataclass

from layerwise.planning.cost import PICOSECONDS, Chunk, Load, slice_costs
from layerwise.planning.pipeline import Pipeline, Workshop


@dataclass(frozen=True, slots=True)
class WorkloadSpeed:
    """Output tokens a second of all lanes, prompts included; seconds to the first and between tokens."""

    tokens_per_second: float
    seconds_to_first_token: float
    seconds_per_output_token: float


@dataclass(frozen=True, slots=True)
class Reading:
    """How prompts are read: `passes` for each, which `prompts` share; `chunk` is what a pass carries."""

    passes: int
    prompts: int
    chunk: Chunk


def workload_speed(workshop: Workshop, pipeline: Pipeline) -> WorkloadSpeed:
    """The pipeline under the request's workload: promptTokens and outputTokens on every lane, always."""
    lanes, in_flight = pipeline.num_sequences, pipeline.micro_batches_in_flight
    outputs = workshop.request.output_tokens
    reading = reading_of(workshop, pipeline)
    passes, each = reading.passes, reading.passes / reading.prompts
    share = min(1.0, each * lanes / (outputs * in_flight + passes - 1))
    cohort = min((outputs - 1) * share / each, (lanes - reading.prompts) / in_flight)
    period, way = _pass_seconds(workshop, pipeline, reading.chunk, cohort)
    mean = (1 - share) * pipeline.period_seconds + share * period
    requests_per_second = share / (each * mean)
    wait = mean / 2 if lanes > 1 else 0.0
    first = wait + (passes - 1) * period + max(way, (in_flight - 1) * mean + period)
    if share == 1.0:
        # Little's law: the lanes that do not decode are those whose prompts are read, or wait for it.
        first = max(first, (lanes - cohort * in_flight) / requests_per_second)
    # Little's law again: a lane is taken for lanes / requests_per_second, of which the rest is for decoding.
    rest = (lanes / requests_per_second - first) / max(1, outputs - 1)
    return WorkloadSpeed(
        outputs * requests_per_second,
        first,
        max(pipeline.seconds_per_output_token, rest if outputs > 1 else 0.0),
    )


def reading_of(workshop: Workshop, pipeline: Pipeline) -> Reading:
    """A chunk never exceeds a lane; positions that tokens attend to, and where chunks end, grow evenly."""
    prompt = workshop.request.prompt_tokens
    size = min(workshop.request.chunk_tokens, workshop.lane_tokens)
    passes = -(-prompt // size)
    prompts = max(1, min(size // prompt, pipeline.micro_batch_size))
    tokens, positions = prompt / passes, (prompt + 1) / 2
    keys = (size * passes * (passes - 1) / 2 + prompt) / passes
    window = workshop.architecture.sliding_window
    if window:
        positions, keys = min(positions, window), min(keys, window + tokens)
    return Reading(passes, prompts, Chunk(prompts * tokens, positions, prompts * keys, prompts / passes))


def _pass_seconds(workshop: Workshop, pipeline: Pipeline, chunk: Chunk, cohort: float) -> tuple[float, float]:
    """Of a pass with a chunk: until the next may follow, and its whole way through the pipeline."""
    request, cut = workshop.request, pipeline.cut
    load = Load(
        dtype=request.dtype,
        batch=cohort,
        context=workshop.context,
        lane_positions=request.num_lanes * workshop.lane_tokens,
        prefill_tokens=workshop.lane_tokens,
        chunk=chunk,
    )
    tables = {
        kind: slice_costs(workshop.blocks, workshop.groups[kind].accelerator, load, request.cache_fit)
        for kind in set(cut.kinds)
    }
    seconds = [tables[kind].picoseconds(first, end) / PICOSECONDS for kind, first, end in cut.slices]
    _, hops, busiest = workshop.hops(cut, cohort + chunk.tokens)
    way = sum(seconds) + hops
    shared = workshop.turn_seconds(seconds)
    return max(*seconds, busiest, way / pipeline.micro_batches_in_flight, shared), way
