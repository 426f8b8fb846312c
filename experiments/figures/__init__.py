"""The figures of the paper by their numbers.

Number 16 is on the data efficiency that the paper claims, 17 and 18 on later questions about the
method.
"""

from experiments.figures import (
    fig01_method,
    fig02_watermaze,
    fig03_bandits,
    fig04_main,
    fig05_prompts,
    fig06_single_stream,
    fig09_sources,
    fig11_rl2_cores,
    fig14_lstm,
    fig15_attention,
    fig16_efficiency,
    fig17_data,
    fig18_rooms,
    sweeps,
)

FIGURES = {
    1: fig01_method.FIGURE,
    2: fig02_watermaze.FIGURE,
    3: fig03_bandits.FIGURE,
    4: fig04_main.FIGURE,
    5: fig05_prompts.FIGURE,
    6: fig06_single_stream.FIGURE,
    7: sweeps.CONTEXT_LENGTH,
    8: sweeps.MODEL_SIZE,
    9: fig09_sources.FIGURE,
    10: sweeps.LABEL_SMOOTHING,
    11: fig11_rl2_cores.FIGURE,
    12: sweeps.TRAINING_TASKS,
    13: sweeps.INPUT_MASK,
    14: fig14_lstm.FIGURE,
    15: fig15_attention.FIGURE,
    16: fig16_efficiency.FIGURE,
    17: fig17_data.FIGURE,
    18: fig18_rooms.FIGURE,
}
