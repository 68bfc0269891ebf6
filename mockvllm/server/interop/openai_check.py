"""What a program that knows only the published API sees of the mock."""

import sys
import time

import openai

url, version = sys.argv[1:]
client = openai.OpenAI(base_url=url, api_key="secret", max_retries=0)
for _ in range(200):
    try:
        models = client.models.list()
        break
    except openai.APIConnectionError:
        time.sleep(0.05)
model = models.data[0].id
assert model == "zai-org/GLM-4.6", model
messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is in the harbour?"}]

whole = client.chat.completions.create(model=model, messages=messages, max_tokens=40, temperature=0)
assert whole.choices[0].finish_reason in ("length", "stop"), whole
assert whole.usage.completion_tokens == 40 and whole.usage.prompt_tokens > 10, whole.usage
assert whole.choices[0].message.role == "assistant" and whole.choices[0].message.content

text, thought, finish, usage, roles = "", "", None, None, 0
for chunk in client.chat.completions.create(
    model=model, messages=messages, max_tokens=40, temperature=0, stream=True, stream_options={"include_usage": True}
):
    usage = chunk.usage or usage
    for choice in chunk.choices:
        roles += choice.delta.role is not None
        text += choice.delta.content or ""
        extra = choice.delta.model_extra or {}
        thought += extra.get("reasoning") or extra.get("reasoning_content") or ""
        finish = choice.finish_reason or finish
assert (roles, finish, usage.completion_tokens) == (1, whole.choices[0].finish_reason, 40), (roles, finish, usage)
assert text == whole.choices[0].message.content, (text, whole.choices[0].message.content)
assert thought, "no reasoning"

done = client.completions.create(model=model, prompt="Once upon a time", max_tokens=12, temperature=0, extra_body={"ignore_eos": True})
streamed = "".join(
    c.choices[0].text
    for c in client.completions.create(model=model, prompt="Once upon a time", max_tokens=12, temperature=0, stream=True, extra_body={"ignore_eos": True})
)
assert done.choices[0].text == streamed and done.usage.completion_tokens == 12

several = client.completions.create(model=model, prompt=["Once upon a time", "In the harbour"], max_tokens=12, temperature=0, extra_body={"ignore_eos": True})
assert [c.index for c in several.choices] == [0, 1] and several.usage.completion_tokens == 24, several
assert several.choices[0].text == done.choices[0].text, several
texts = ["", ""]
for c in client.completions.create(
    model=model, prompt=["Once upon a time", "In the harbour"], max_tokens=12, temperature=0, stream=True, extra_body={"ignore_eos": True}
):
    for choice in c.choices:
        texts[choice.index] += choice.text
assert texts == [c.text for c in several.choices], (texts, several)

told = client.chat.completions.create(model=model, messages=messages, max_tokens=8, temperature=0, logprobs=True, top_logprobs=2).choices[0]
assert len(told.logprobs.content) == 8 and all(len(t.top_logprobs) == 2 and t.logprob <= 0 for t in told.logprobs.content), told
old = client.completions.create(model=model, prompt="Once upon a time", max_tokens=8, temperature=0, logprobs=3, extra_body={"ignore_eos": True}).choices[0]
assert "".join(old.logprobs.tokens) == old.text and len(old.logprobs.top_logprobs) == 8, old

stopped = client.completions.create(model=model, prompt="Once upon a time", max_tokens=300, temperature=0, stop=["."])
assert stopped.choices[0].finish_reason == "stop" and "." not in stopped.choices[0].text

for kind, call in {
    openai.BadRequestError: lambda: client.completions.create(model=model, prompt="x", max_tokens=10**6),
    openai.NotFoundError: lambda: client.completions.create(model="other", prompt="x"),
    openai.AuthenticationError: lambda: client.with_options(api_key="wrong").models.list(),
}.items():
    try:
        call()
    except kind as e:
        assert kind is not openai.BadRequestError or "maximum context length" in str(e), e
    else:
        raise AssertionError(f"no {kind.__name__}")
print(f"vLLM {version}: chat, completions, streams, several prompts, log-probabilities, stop, errors as the openai package {openai.__version__} expects them")
