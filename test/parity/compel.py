"""Answers the live prompt weighting tests with Compel.

    python test/parity/compel.py parse REQUEST ANSWER     # JSON files

A `parse` request is a list of prompts; the answer has for each what Compel reads, or {"error"}.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

# This file has the package's name.
sys.path = [path for path in sys.path if Path(path or ".").resolve() != Path(__file__).parent]

import pyparsing  # noqa: E402
from compel.prompt_parser import Blend, CrossAttentionControlSubstitute, PromptParser  # noqa: E402

# Without it, each level of nesting takes four times as long as the one before.
pyparsing.ParserElement.enable_packrat(None)


def fragments_of(prompt: Any) -> list[list[Any]]:
    found = []
    for child in prompt.children:
        if isinstance(child, CrossAttentionControlSubstitute):
            # The edited words are for cross-attention control; the conditioning has the original.
            found += [[one.text, one.weight] for one in child.original]
        else:
            found.append([child.text, child.weight])
    return found


def part_of(prompt: Any, weight: float) -> dict[str, Any]:
    if not isinstance(prompt, Blend):
        return {"weight": weight, "blend": [{"weight": 1, "fragments": fragments_of(prompt)}]}
    total = sum(prompt.weights) if prompt.normalize_weights else 1
    blend = [
        {"weight": one / total, "fragments": fragments_of(part)}
        for part, one in zip(prompt.prompts, prompt.weights, strict=True)
    ]
    return {"weight": weight, "blend": blend}


def parse(parser: PromptParser, prompt: str) -> dict[str, Any]:
    try:
        read = parser.parse_conjunction(prompt)
        return {
            "parts": [
                part_of(one, weight)
                for one, weight in zip(read.prompts, read.weights, strict=True)
            ],
            "loraWeights": [
                {"name": lora.model, "weight": lora.weight} for lora in read.lora_weights
            ],
        }
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=("parse",))
    parser.add_argument("request", type=Path)
    parser.add_argument("answer", type=Path)
    arguments = parser.parse_args()
    request = json.loads(arguments.request.read_text(encoding="utf-8"))
    reader = PromptParser()
    answers = [parse(reader, prompt) for prompt in request]
    arguments.answer.write_text(json.dumps(answers), encoding="utf-8")


if __name__ == "__main__":
    main()
