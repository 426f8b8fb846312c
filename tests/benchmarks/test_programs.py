"""What is read from a compiled program: loops, exchanges, the largest array, bytes moved."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from ad_jax.distributed import sharding
from benchmarks import programs

# As XLA writes it for a TPU: a loop with its trip count in the condition, an asynchronous
# all-gather with one channel, an all-reduce of which each device keeps a part, and two memories.
PROGRAM = """HloModule jit_step
%gather (p: bf16[512,1024]) -> bf16[2048,1024] {
  %p = bf16[512,1024]{1,0:T(8,128)(2,1)} parameter(0)
  ROOT %ag.1 = bf16[2048,1024]{1,0} all-gather(%p), channel_id=1, replica_groups=[4,4]<=[16]
}
%gather.clone (p.1: bf16[512,1024]) -> bf16[2048,1024] {
  %p.1 = bf16[512,1024]{1,0} parameter(0)
  ROOT %ag.2 = bf16[2048,1024]{1,0} all-gather(%p.1), channel_id=1, replica_groups=[4,4]<=[16]
}
%all-reduce-scatter.3 (g: f32[524288]) -> f32[131072] {
  %g = f32[524288]{0} parameter(0)
  %all-reduce.7 = f32[524288]{0} all-reduce(%g), channel_id=2, replica_groups={{0,1,2,3},{4,5,6,7}}
  ROOT %slice = f32[131072]{0} dynamic-slice(%all-reduce.7), dynamic_slice_sizes={131072}
}
%body (state: (s32[], bf16[512,1024])) -> (s32[], bf16[512,1024]) {
  %state = (s32[]{:T(128)}, bf16[512,1024]{1,0}) parameter(0)
  %part = bf16[512,1024]{1,0} get-tuple-element(%state), index=1
  %fusion.1 = bf16[2048,1024]{1,0} fusion(%part), kind=kCustom, calls=%gather
  %fusion.2 = bf16[2048,1024]{1,0:T(8,128)S(1)} fusion(%part), kind=kCustom, calls=%gather.clone
  %a2a = bf16[512,1024]{1,0} all-to-all(%part), channel_id=3, replica_groups=mesh['a'=4,'b'=2] {'b'}
  ROOT %tuple.1 = (s32[]{:T(128)}, bf16[512,1024]{1,0}) tuple(%state, %a2a)
}
%condition (state.1: (s32[], bf16[512,1024])) -> pred[] {
  %state.1 = (s32[]{:T(128)}, bf16[512,1024]{1,0}) parameter(0)
  %turn = s32[]{:T(128)} get-tuple-element(%state.1), index=0
  %constant.9 = s32[]{:T(128)} constant(5)
  ROOT %compare = pred[]{:T(128)} compare(%turn, %constant.9), direction=LT
}
ENTRY %main (x: bf16[512,1024], y: f32[524288]) -> f32[131072] {
  %x = bf16[512,1024]{1,0} parameter(0)
  %y = f32[524288]{0} parameter(1)
  %start = (s32[]{:T(128)}, bf16[512,1024]{1,0}) tuple(%x, %x)
  %while.1 = (s32[]{:T(128)}, bf16[512,1024]{1,0}) while(%start), condition=%condition, body=%body
  ROOT %fusion.9 = f32[131072]{0} fusion(%y), kind=kCustom, calls=%all-reduce-scatter.3
}
"""


def test_exchanges_count_once_for_a_channel_and_as_often_as_their_loop_turns():
    sent = programs.collectives(PROGRAM)
    mib = lambda kind: (sent[kind]["mib"], sent[kind]["sent_mib"])
    assert {kind: found["number"] for kind, found in sent.items()} == {
        "all-gather": 5, "all-to-all": 5, "reduce-scatter": 1
    }  # fmt: skip
    assert mib("all-gather") == (5 * 4, 5 * 3)
    assert mib("all-to-all") == (5 * 1, 5 * 0.5)
    assert mib("reduce-scatter") == (2, 1.5)


def test_only_what_is_in_the_large_memory_is_moved():
    # In MiB: an iteration reads 1 three times and writes 4 and 1; the rest reads 2 and writes 0.5.
    assert programs.bytes_moved(PROGRAM) / 2**20 == 5 * (3 * 1 + 4 + 1) + 2 + 0.5


def test_the_largest_array():
    assert programs.largest(PROGRAM) == ("bf16[2048,1024]", 4)


def test_a_loop_without_an_end_is_an_error():
    endless = PROGRAM.replace("s32[]{:T(128)} constant(5)", "s32[]{:T(128)} add(%turn, %turn)")
    with pytest.raises(ValueError, match="the trip count of this loop is not known"):
        list(programs.instructions(endless))


def test_a_program_for_this_machine_reads_as_it_was_written():
    """A scan with three iterations, in each of which four devices add up their parts."""
    mesh = sharding.make_mesh()
    rows = NamedSharding(mesh, PartitionSpec("data"))

    def three_sums(x_4xN):
        add = lambda total, turn: (total + (x_4xN * turn).sum(0), None)
        return jax.lax.scan(add, jnp.zeros(2**18), jnp.arange(3.0))[0]

    x = jax.ShapeDtypeStruct((4, 2**18), np.float32, sharding=rows)  # 1 MiB on each device
    whole = sharding.replicated(mesh)
    program = jax.jit(three_sums, out_shardings=whole).lower(x).compile().as_text()
    (found,) = programs.collectives(program).values()
    assert found["number"] in (1, 3)  # the sum over devices may have been moved out of the loop
    assert found["mib"] == pytest.approx(found["number"], rel=0.05)
    assert found["sent_mib"] == pytest.approx(found["number"] * 2 * 3 / 4, rel=0.05)
    assert programs.largest(program)[1] == pytest.approx(1, rel=0.05)
