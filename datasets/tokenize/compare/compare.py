"""Records what HF tokenizers makes of 10,000 strings, for several tokenizers.

usage: compare.py OUT [TOKENIZER.json ...]
       compare.py OUT --fixtures DIR    (writes ../testdata for the unit tests)

Trains byte-level BPE tokenizers with the pre-tokenizers of GPT-2, GLM-4.6
(cl100k) and Qwen on the text files of OUT/corpus.txt, writes them and, for
each and for every TOKENIZER.json given, OUT/NAME.strings.jsonl. Prints the
reference's speed on one thread.
"""
import json
import os
import random
import sys
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers  # noqa: E402

CL100K = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN = CL100K.replace(r"\p{N}{1,3}", r"\p{N}")
SPECIAL = ["<|endoftext|>", "[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>", "<think>", "</think>"]


def split(pattern):
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def train(corpus, pre, vocab, nfc=False, added=()):
    t = Tokenizer(models.BPE())
    if nfc:
        t.normalizer = normalizers.NFC()
    t.pre_tokenizer = pre
    trainer = trainers.BpeTrainer(
        vocab_size=vocab, special_tokens=SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    t.train_from_iterator([corpus[i : i + 5000] for i in range(0, len(corpus), 5000)], trainer)
    t.add_tokens(list(added))
    return t


def strings(corpus, n, seed=1):
    r = random.Random(seed)
    han = "的一是不了人我在有他这为之大来以个中上们泵站检查报告夜班索引"
    kana = "ポンプ場の検査報告書はあと一週間を必要とする"
    emoji = ["😀", "👍🏽", "👨‍👩‍👧", "🇩🇪", "❤️", "🏳️‍🌈", "½", "²", "Ⅷ", "٣", "é", "e\u0301", "ﬁ", "ſ", "K"]
    spaces = [" ", "  ", "    ", "\t", "\n", "\r\n", "\n\n", " \n", "\u00a0", "\u2003", "\u3000", "\u2028", "\x0b", "\x85", "\u200b", "\x1c"]
    words = ["don't", "I'LL", "we'Ve", "it'ſ", "x_1", "__init__", "HTTPServer2", "1234567", "3.14", "a+b", "...", "->", "::", "//", "'", '"', "”", "naïve", "Straße", "привет", "مرحبا", "नमस्ते", "한국어", "ไทย", "\u0000", "\ufeff", "�"]
    for i in range(n):
        kind = i % 8
        if kind in (0, 1):
            o = r.randrange(len(corpus) - 600)
            yield corpus[o : o + r.randrange(1, 600)]
        elif kind == 2:
            yield "".join(r.choice(han + kana + "，。「」、 ") for _ in range(r.randrange(1, 80)))
        elif kind == 3:
            yield "".join(r.choice(emoji + spaces + words) for _ in range(r.randrange(1, 40)))
        elif kind == 4:
            yield "".join(r.choice(spaces + ["a", "1", "!", "é"]) for _ in range(r.randrange(1, 60)))
        elif kind == 5:
            parts = SPECIAL + words + spaces + ["<|user", "|>", "<ADD>", "word", " <think> "]
            yield "".join(r.choice(parts) for _ in range(r.randrange(1, 25)))
        elif kind == 6:
            out = []
            while len(out) < r.randrange(1, 60):
                c = r.choice([r.randrange(0x20, 0x250), r.randrange(0x250, 0x3000), r.randrange(0x3000, 0xD7FF), r.randrange(0x1F300, 0x1FAFF)])
                out.append(chr(c))
            yield "".join(out)
        else:
            o = r.randrange(len(corpus) - 300)
            s = list(corpus[o : o + r.randrange(1, 300)])
            for _ in range(r.randrange(1, 8)):
                s[r.randrange(len(s))] = r.choice(emoji + spaces + words)
            yield "".join(s)
    for s in ["", " ", "a" * 5000, "ab" * 3000, "日" * 3000, " " * 3000 + "x", "\n" * 999, "!" * 2000, "0" * 1000]:
        yield s


def fixtures(corpus, dst):
    """Small tokenizers and few strings, for the tests that need no Python."""
    jobs = {
        "gpt2-prefix": train(corpus, pre_tokenizers.ByteLevel(add_prefix_space=True), 700),
        "cl100k": train(corpus, split(CL100K), 1500, added=[AddedToken("<ADD>", lstrip=True, rstrip=True, normalized=False), AddedToken("word", single_word=True, normalized=True)]),
        "qwen": train(corpus, split(QWEN), 700, nfc=True),
        "other": train(corpus, pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.Split(Regex(r"\p{Lu}?\p{Ll}+|\p{Lu}+|[^\s\p{L}]+|\s+"), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]), 700),
    }
    for name, t in jobs.items():
        data = json.loads(t.to_str())
        data["model"]["merges"] = [" ".join(m) if isinstance(m, list) and name == "qwen" else m for m in data["model"]["merges"]]
        json.dump(data, open(os.path.join(dst, name + ".json"), "w"), ensure_ascii=True)
        with open(os.path.join(dst, name + ".strings.jsonl"), "w") as w:
            for s in strings(corpus, 160, seed=2):
                s = s[:700]
                w.write(json.dumps({"text": s, "ids": t.encode(s, add_special_tokens=False).ids}) + "\n")


def main():
    out = sys.argv[1]
    corpus = open(os.path.join(out, "corpus.txt"), encoding="utf-8", newline="").read()
    if sys.argv[2:3] == ["--fixtures"]:
        fixtures(corpus, sys.argv[3])
        return
    jobs = {
        "gpt2": train(corpus, pre_tokenizers.ByteLevel(add_prefix_space=False), 3000),
        "gpt2-prefix": train(corpus, pre_tokenizers.ByteLevel(add_prefix_space=True), 1500),
        "cl100k": train(corpus, split(CL100K), 20000, added=[AddedToken("<ADD>", lstrip=True, rstrip=True, normalized=False), AddedToken("word", single_word=True, normalized=True)]),
        "qwen": train(corpus, split(QWEN), 8000, nfc=True),
        "digits": train(corpus, pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]), 2000),
        "other-pattern": train(corpus, split(r"\p{Lu}?\p{Ll}+|\p{Lu}+|\p{N}{2}|[^\s\p{L}\p{N}]+|\s+"), 2000),
    }
    for name, t in jobs.items():
        t.save(os.path.join(out, name + ".json"))
    for path in sys.argv[2:]:
        name = "given-%d" % (len(jobs) - 5)
        data = open(path, encoding="utf-8").read()
        open(os.path.join(out, name + ".json"), "w", encoding="utf-8").write(data)
        jobs[name] = Tokenizer.from_str(data)
    for name, t in jobs.items():
        with open(os.path.join(out, name + ".strings.jsonl"), "w", encoding="utf-8") as w:
            for s in strings(corpus, 10_000):
                ids = t.encode(s, add_special_tokens=False).ids
                w.write(json.dumps({"text": s, "ids": ids}, ensure_ascii=True) + "\n")
        size = len(corpus.encode())
        times = []
        for _ in range(3):
            start = time.perf_counter()
            for i in range(0, len(corpus), 50_000):
                t.encode(corpus[i : i + 50_000], add_special_tokens=False)
            times.append(time.perf_counter() - start)
        print(f"{name:16} reference {size / 1e6 / sorted(times)[1]:.1f} MB/s on one thread (median of 3)")


main()
