"""BOS and chat template on request: which tokens the model then gets, and what is refused."""

import copy
from pathlib import Path
from typing import Any

import pytest

from laminar_tui.cli import COMMANDS
from laminar_tui.errors import PromptError
from laminar_tui.model.load import load_model
from laminar_tui.model.loaded import LoadedModel, decode_tokens, find_leading
from laminar_tui.options import make_request
from laminar_tui.run import BUNDLED_MODEL, Request, Session
from laminar_tui.source import find_source

MESSAGES = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}"
TEMPLATE = MESSAGES + "{% if add_generation_prompt %}<bot>{% endif %}"


@pytest.fixture(scope="module")
def plain(model_folder: Path) -> LoadedModel:
    """A model whose tokenizer has neither BOS nor a template, and a token for each byte."""
    return load_model(find_source(str(model_folder)), device="cpu")


@pytest.fixture(scope="module")
def loaded(plain: LoadedModel) -> LoadedModel:
    """The same with a BOS token (number 256) and a template."""
    tokenizer = copy.deepcopy(plain.tokenizer)
    tokenizer.add_special_tokens({"bos_token": "<s>"})
    tokenizer.chat_template = TEMPLATE
    return LoadedModel(plain.model, tokenizer, plain.source)


def test_without_a_request_the_tokens_are_the_texts(loaded: LoadedModel) -> None:
    prompt = loaded.tokenize("héllo")
    assert prompt.tokens == ("h", "é", "", "l", "l", "o")
    assert not loaded.begins_with_bos(prompt.ids)


def test_bos_is_put_in_front_by_its_own_name(loaded: LoadedModel) -> None:
    plain, prompt = loaded.tokenize("héllo"), loaded.tokenize("héllo", bos=True)
    assert prompt.ids == (256, *plain.ids)
    assert prompt.tokens == ("<s>", *plain.tokens)
    assert loaded.begins_with_bos(prompt.ids)
    assert loaded.tokenize("héllo", 3, bos=True).ids == prompt.ids[:3]


@pytest.mark.parametrize(
    ("special", "plain", "leading"),
    [([0, 5], [5], [0]), ([5], [5], []), ([1, 2, 5, 3], [5], [1, 2]), ([5, 3], [5], []), ([9], [5], [])],
)
def test_what_a_tokenizer_puts_in_front(special: list[int], plain: list[int], leading: list[int]) -> None:
    assert find_leading(special, plain) == leading


def test_bos_stands_once_in_front_of_every_text(loaded: LoadedModel, bundled: LoadedModel) -> None:
    assert loaded.leading_ids() == []
    assert loaded.leading_ids(bos=True) == [256]
    assert bundled.leading_ids() == bundled.leading_ids(bos=True) == [bundled.bos_id()]


@pytest.mark.parametrize("text", ["Call me Ishmael.", "héllo → 🙂 end", "🙂"])
def test_tokens_are_decoded_as_they_stand_in_the_text(text: str, plain: LoadedModel, bundled: LoadedModel) -> None:
    for each in (plain, bundled):
        prompt = each.tokenize(text)
        assert tuple(decode_tokens(each.tokenizer, prompt.ids)) == prompt.tokens


def test_a_token_keeps_the_blank_that_it_loses_alone() -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"▁Call": 0, "▁me": 1, "?": 2}, unk_token="?"))
    words.pre_tokenizer, words.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words)
    assert tokenizer.decode([1]) == "me"
    assert decode_tokens(tokenizer, [0, 1, 1]) == ["Call", " me", " me"]


@pytest.fixture(scope="module")
def bundled() -> LoadedModel:
    """A model whose tokenizer puts BOS in front by itself."""
    return load_model(find_source(str(BUNDLED_MODEL)), device="cpu")


def test_a_template_brings_its_own_special_tokens(bundled: LoadedModel) -> None:
    tokenizer = copy.deepcopy(bundled.tokenizer)
    tokenizer.chat_template = TEMPLATE
    templated = LoadedModel(bundled.model, tokenizer, bundled.source)
    assert not templated.begins_with_bos(templated.tokenize("one", chat=True).ids)
    tokenizer.chat_template = "{{ bos_token }}" + TEMPLATE
    ids = templated.tokenize("one", chat=True).ids
    assert templated.begins_with_bos(ids)
    assert not templated.begins_with_bos(ids[1:])


def test_bos_that_the_tokenizer_adds_by_itself_is_not_doubled(bundled: LoadedModel) -> None:
    prompt = bundled.tokenize("one two")
    assert bundled.begins_with_bos(prompt.ids)
    assert bundled.tokenize("one two", bos=True) == prompt


def test_a_chat_template_wraps_the_prompt_as_a_users_message(loaded: LoadedModel) -> None:
    prompt = loaded.tokenize("hé", chat=True)
    assert "".join(prompt.tokens) == "<user>hé<bot>"
    assert prompt.ids == loaded.tokenize("<user>hé<bot>").ids
    assert loaded.tokenize("hé", chat=True, bos=True).ids == (256, *prompt.ids)


@pytest.mark.parametrize(
    ("options", "said", "hint"),
    [
        ({"bos": True}, "no beginning-of-sequence token", "leave the BOS token out"),
        ({"chat": True}, "no chat template", "leave the chat template out"),
    ],
)
def test_what_the_tokenizer_does_not_have_is_refused_by_name(
    plain: LoadedModel, options: dict[str, bool], said: str, hint: str
) -> None:
    with pytest.raises(PromptError, match=said) as caught:
        plain.tokenize("text", **options)  # type: ignore[arg-type]
    assert caught.value.hint == hint


@pytest.mark.parametrize(
    "template", ["{% for %}", "{{ raise_exception('no system role') }}", "{{ 1 / 0 }}", "{{ x.y.z }}"]
)
def test_a_template_that_fails_is_an_error_of_the_prompt(loaded: LoadedModel, template: str) -> None:
    tokenizer = copy.deepcopy(loaded.tokenizer)
    tokenizer.chat_template = template
    with pytest.raises(PromptError, match="the chat template of tiny-llama fails: "):
        LoadedModel(loaded.model, tokenizer, loaded.source).tokenize("text", chat=True)


def test_a_run_gets_what_was_asked_for(model_folder: Path) -> None:
    session = Session()
    request = Request(str(model_folder), "text", device="cpu")
    assert session.prompt_facts(request) is None, "nothing is loaded yet"
    session.run(request, lambda _event: None, lambda: False)
    facts = session.prompt_facts(request)
    assert facts is not None
    assert (facts.n_tokens, facts.max_tokens, facts.has_bos, facts.has_chat) == (4, 64, False, False)
    assert session.prompt_facts(Request("another", "text")) is None
    with pytest.raises(PromptError, match="beginning-of-sequence"):
        session.run(Request(str(model_folder), "text", device="cpu", bos=True), lambda _event: None, lambda: False)


@pytest.mark.parametrize("command", ["", "capture", "show", "check"])
def test_the_command_line_hands_both_on(command: str) -> None:
    parse: Any = COMMANDS[command][0]
    options = parse().parse_args(["model", "--bos", "--chat", "--prompt", "x"])
    request = make_request(options)
    assert (request.bos, request.chat) == (True, True)
    assert not make_request(parse().parse_args(["model", "--prompt", "x"])).bos
