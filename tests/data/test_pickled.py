"""Files of CIFAR's Python versions: what is in them is read, all else is refused, and nothing is ever run."""

import os
import pickle
import pickletools
import struct
import tracemalloc
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rebuttal.data.pickled import Refused, read_pickled
from tests.data.cifar_files import python2

DATA = np.random.default_rng(0).integers(256, size=(7, 3072), dtype=np.uint8)
BATCH = {
    b"batch_label": b"training batch 1 of 5",
    b"labels": [6, 9, 9, 4, 1, 1, 300],
    b"data": DATA,
    b"filenames": [b"leptodactylus_pentadactylus_s_%06d.png" % i for i in range(300)],
}
OPCODES = {opcode.code.encode("latin1"): opcode for opcode in pickletools.opcodes}
READ = set(b"}]()NUTXKMJhjqraesutcRb.") | {0x80, 0x85, 0x86, 0x87, 0x88, 0x89}


def python3(value):
    return pickle.dumps(value, protocol=2)


def python3_text(value):
    return pickle.dumps({key.decode(): item for key, item in value.items()}, protocol=2)


@pytest.mark.parametrize("dump", [python2, python3, python3_text])
def test_a_batch_is_read_as_pickle_reads_it(dump):
    raw = dump(BATCH)
    found = read_pickled(raw)
    expected = pickle.loads(raw, encoding="bytes")  # of our own making
    assert list(found) == ["batch_label", "labels", "data", "filenames"]
    for name, value in found.items():
        other = expected[name] if name in expected else expected[name.encode()]
        assert np.array_equal(value, other) and type(value) is type(other)
    assert np.array_equal(found["data"], DATA) and found["data"].dtype == np.uint8


def test_the_files_of_the_tests_have_the_opcodes_of_the_original_ones():
    """The first bytes of the original data_batch_1 and batches.meta."""
    assert python2(BATCH).startswith(
        b"\x80\x02}q\x01(U\x0bbatch_labelq\x02U\x15training batch 1 of 5q\x03U\x06labelsq\x04]q\x05(K\x06K\x09"
    )
    meta = {b"num_cases_per_batch": 10000, b"label_names": [b"airplane"], b"num_vis": 3072}
    start = b"\x80\x02}q\x01(U\x13num_cases_per_batchq\x02M\x10'U\x0blabel_namesq\x03]q\x04(U\x08airplaneq\x05e"
    assert python2(meta).startswith(start)
    assert read_pickled(python2(meta)) == {"num_cases_per_batch": 10000, "label_names": [b"airplane"], "num_vis": 3072}


def test_an_array_by_columns_is_read(tmp_path):
    found = read_pickled(python3({b"data": np.asfortranarray(DATA)}))
    assert np.array_equal(found["data"], DATA)


class Runs:
    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


def entry(raw):
    """A pickle of a dictionary with one entry, whose value is made by these opcodes."""
    return b"\x80\x02}U\x04data" + raw + b"s."


ARRAY = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
DTYPE = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"


def global_(place):
    return entry(f"c{place}\n".encode() + b"U\x04true\x85R")


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (global_("os\nsystem"), "it names os.system"),
        (global_("posix\nsystem"), "it names posix.system"),
        (global_("builtins\neval"), "it names builtins.eval"),
        (global_("__builtin__\neval"), "it names __builtin__.eval"),
        (global_("subprocess\nPopen"), "it names subprocess.Popen"),
        (global_("numpy\nload"), "it names numpy.load"),
        (global_("numpy\nfromfile"), "it names numpy.fromfile"),
        (global_("numpy.core.multiarray\nscalar"), "it names numpy.core.multiarray.scalar"),
        (global_("numpy.core\nmultiarray._reconstruct"), "it names numpy.core.multiarray._reconstruct"),
        (global_("_codecs\ndecode"), "it names _codecs.decode"),
        (global_("os\x1b[2J\nsystem"), r"it names os\x1b[2J.system"),
        (global_("numpy\ndtype"), "it calls dtype with other arguments"),
        (global_("numpy\nndarray"), "it calls ndarray with other arguments"),
        (
            entry(b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nJ\xff\xff\xff\x7f\x85U\x01b\x87R"),
            "it calls array",
        ),
        (entry(b"c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R"), "it calls encode"),
        (
            entry(b"c_codecs\nencode\nX\x03\x00\x00\x00\xe2\x82\xacX\x06\x00\x00\x00latin1\x86R"),
            "it has text that is no bytes",
        ),
        (entry(b"X\x01\x00\x00\x00\xff"), "it has text that is not UTF-8"),
        (entry(b"T\xff\xff\xff\x7fabc"), "it is cut off"),
        (entry(b"T\xff\xff\xff\xffabc"), "it is cut off"),
        (entry(b"X\xff\xff\xff\xffabc"), "it is cut off"),
        (entry(b"h\x05"), "its opcodes do not fit together"),
        (entry(b"R"), "its opcodes do not fit together"),
        (entry(b"K\x01b"), "its opcodes do not fit together"),
        (entry(b"K\x01K\x02e"), "its opcodes do not fit together"),
        (b"\x80\x02.", "its opcodes do not fit together"),
        (b"\x80\x02(.", "its opcodes do not fit together"),
        (b"\x80\x02t.", "its opcodes do not fit together"),
        (b"\x80\x02].", "its opcodes do not fit together"),
        (b"\x80\x02}K\x01K\x02s.", "it has a dictionary whose keys are no names"),
        (b"\x80\x02}(U\x01aK\x01U\x01bu.", "it has a dictionary whose keys are no names"),
        (b"\x80\x02}.}.", "something follows its end"),
        (b"\x80\x02}}.", "something follows its end"),
        (entry(b"]]a"), "it has entries that are neither"),
        (entry(b"}"), "it has entries that are neither"),
        (entry(b"N"), "it has entries that are neither"),
        (entry(b"cnumpy\nndarray\n"), "it has entries that are neither"),
        (entry(ARRAY), "it has entries that are neither"),
        (entry(DTYPE), "it has entries that are neither"),
        (entry(ARRAY + b"(K\x01K\x02\x85" + DTYPE + b"\x89U\x01atb"), "it has an array of another size"),
        (
            entry(ARRAY + b"(K\x01J\xff\xff\xff\xffJ\xff\xff\xff\xff\x86" + DTYPE + b"\x89U\x01atb"),
            "it has an array of another size",
        ),
        (entry(ARRAY + b"(K\x01U\x01a\x85" + DTYPE + b"\x89U\x01atb"), "it has an array of another size"),
        (
            entry(ARRAY + b"(K\x01" + b"K\x01" * 9 + b"t" + DTYPE + b"\x89U\x01a\x87b"),
            "its opcodes do not fit together",
        ),
        (entry(ARRAY + b"(K\x01K\x01\x85U\x02u1\x89U\x01atb"), "it has an array of another kind than uint8"),
        (entry(ARRAY + b"(K\x02K\x01\x85" + DTYPE + b"\x89U\x01atb"), "it has an array of another kind than uint8"),
        (entry(b"cnumpy\ndtype\nU\x02O8K\x00K\x01\x87R"), "it calls dtype with other arguments"),
        (b"", "it is no pickle of protocol 2"),
        (b"(dp1\n.", "it is no pickle of protocol 2"),
        (pickle.dumps(BATCH, protocol=0), "it is no pickle of protocol 2"),
        (pickle.dumps(BATCH, protocol=4), "it is no pickle of protocol 2"),
        (python3({b"data": Runs(os.mkdir, "made")}), "it names posix.mkdir"),
        (python3({b"data": DATA.astype(np.int64)}), "it calls dtype with other arguments"),
        (python3({b"data": DATA.astype(object)}), "it calls dtype with other arguments"),
        (python3({b"labels": [0.5]}), "it has the opcode BINFLOAT"),
        (python3({b"labels": [2**40]}), "it has the opcode LONG1"),
        (python3({b"labels": {1, 2}}), "it names __builtin__.set"),
        (python3({b"%d" % i: 0 for i in range(101)}), "it has 101 entries"),
    ],
)
def test_everything_else_is_refused_in_one_line_and_nothing_is_run(raw, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Refused) as caught:
        read_pickled(raw)
    assert str(caught.value).startswith(said) and "\n" not in str(caught.value) and str(caught.value).isprintable()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("code", sorted(set(OPCODES) - {bytes([code]) for code in READ}))
def test_every_other_opcode_is_refused(code):
    with pytest.raises(Refused, match=f"it has the opcode {OPCODES[code].name}$"):
        read_pickled(entry(code + bytes(20)))


@pytest.mark.parametrize("dump", [python2, python3])
def test_a_file_that_is_cut_off_anywhere_is_refused(dump):
    raw = dump({**BATCH, b"data": DATA[:1, :20], b"filenames": BATCH[b"filenames"][:3]})
    for size in range(len(raw)):
        with pytest.raises(Refused):
            read_pickled(raw[:size])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(2, 700), st.binary(min_size=1, max_size=4)), min_size=1, max_size=5))
def test_damaged_files_are_read_or_refused(changes):
    raw = bytearray(python2({**BATCH, b"data": DATA[:1, :20], b"filenames": BATCH[b"filenames"][:3]}))
    for place, content in changes:
        place %= len(raw)
        raw[place : place + len(content)] = content
    try:
        found = read_pickled(bytes(raw))
    except Refused as error:
        assert "\n" not in str(error)
    else:
        assert all(isinstance(value, (bytes, str, int, list, np.ndarray)) for value in found.values())


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([*map(lambda c: bytes([c]), READ)]), max_size=30), st.binary(max_size=20))
def test_opcodes_in_any_order_are_read_or_refused(codes, rest):
    with suppress(Refused):
        read_pickled(b"\x80\x02" + b"".join(codes) + rest)


def test_a_small_file_fills_no_memory():
    """Text that is encoded again and again, lengths that nothing backs."""
    text = b"X" + struct.pack("<I", 100_000) + b"a" * 100_000 + b"q\x00"
    again = b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86Ra" * 1000
    tracemalloc.start()
    with pytest.raises(Refused, match="it has more text than bytes"):
        read_pickled(entry(text + b"]" + again))
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()
