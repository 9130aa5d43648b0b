"""Decathlon tasks: against nnU-Net's own converter, from folders, archives and a local web server."""

import functools
import gzip
import hashlib
import http.server
import json
import os
import shutil
import tarfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.dataset_conversion.convert_MSD_dataset import convert_msd_dataset

from missu_nnunet.datasets.conversion import edited, execute
from missu_nnunet.datasets.msd import MD5, check_integrity, download, find_task, plan_msd, task_number, unpack
from missu_nnunet.errors import InputError
from missu_nnunet.parallel import map_cases


def write_task(root, name="Task05_Tiny", channels=2, cases=3):
    folder = root / name
    rng = np.random.default_rng(0)
    for part in ("imagesTr", "labelsTr", "imagesTs"):
        (folder / part).mkdir(parents=True)
    for number in range(cases + 1):
        image = rng.random((channels, 4, 6, 5)).astype(np.float32)
        itk = (
            sitk.JoinSeries([sitk.GetImageFromArray(one) for one in image])
            if channels > 1
            else sitk.GetImageFromArray(image[0])
        )
        itk.SetSpacing((0.6, 0.6, 4.0, 1.0)[: itk.GetDimension()])
        where = "imagesTr" if number < cases else "imagesTs"
        sitk.WriteImage(itk, str(folder / where / f"tiny_{number:02d}.nii.gz"))
        (folder / where / f"._tiny_{number:02d}.nii.gz").write_bytes(b"\0\5\26\7")
        if number < cases:
            label = sitk.GetImageFromArray(rng.integers(0, 3, (4, 6, 5)).astype(np.uint8))
            label.SetSpacing((0.6, 0.6, 4.0))
            sitk.WriteImage(label, str(folder / "labelsTr" / f"tiny_{number:02d}.nii.gz"))
    description = {
        "name": "Tiny",
        "modality": {str(channel): f"MR{channel}" for channel in range(channels)},
        "labels": {"0": "background", "1": "PZ", "2": "TZ"},
        "numTraining": cases,
        "numTest": 1,
        "training": [
            {"image": f"./imagesTr/tiny_{n:02d}.nii.gz", "label": f"./labelsTr/tiny_{n:02d}.nii.gz"}
            for n in range(cases)
        ],
        "test": [f"./imagesTs/tiny_{cases:02d}.nii.gz"],
    }
    (folder / "dataset.json").write_text(json.dumps(description))
    (folder / "._dataset.json").write_bytes(b"\0")
    return folder


def contents(folder):
    return {
        str(path.relative_to(folder)): json.loads(path.read_text()) if path.suffix == ".json" else path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "conversion.csv"
    }


@pytest.mark.parametrize("channels", [1, 2])
def test_the_same_files_as_from_nnunets_converter(tmp_path, monkeypatch, channels):
    task = write_task(tmp_path, channels=channels)
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "theirs"))
    convert_msd_dataset(str(task), 5, num_processes=1)
    folder = execute(plan_msd(task, 5), tmp_path / "ours", workers=1)
    assert contents(folder) == contents(tmp_path / "theirs" / "Dataset005_Tiny")


def test_hippocampus_as_from_nnunets_converter(tmp_path, monkeypatch):
    data = Path(os.environ.get("MISSU_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
    task = data / "Task04_Hippocampus"
    if not task.is_dir():
        pytest.skip(f"needs {task}: real data that is not part of the repository; MISSU_TEST_DATA names its folder")
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "theirs"))
    convert_msd_dataset(str(task), 4, num_processes=1)
    folder = execute(plan_msd(task, 4), tmp_path / "ours", workers=1)
    assert contents(folder) == contents(tmp_path / "theirs" / "Dataset004_Hippocampus")


def test_links(tmp_path):
    folder = execute(plan_msd(write_task(tmp_path, channels=1), 5, link=True), tmp_path / "raw", workers=1)
    assert all(path.is_symlink() and path.exists() for path in folder.glob("*/*.nii.gz"))


def test_copies_take_the_place_of_links(tmp_path):
    task = write_task(tmp_path, channels=1)
    execute(plan_msd(task, 5, link=True), tmp_path / "raw", workers=1)
    folder = execute(plan_msd(task, 5), tmp_path / "raw", workers=1)
    shutil.rmtree(task)
    assert all(path.is_file() and not path.is_symlink() for path in folder.glob("*/*.nii.gz"))


@pytest.mark.parametrize("kind", ["folder", "archive"])
def test_another_task_of_the_same_name_is_refused(tmp_path, monkeypatch, kind):
    """Its files may be older than what was made of the first one's, and were taken for done."""
    raw = tmp_path / "raw"

    def convert(place):
        monkeypatch.chdir(tmp_path / place)
        if kind == "folder":
            return execute(plan_msd(Path("Task05_Tiny"), 5), raw, workers=1)
        task = unpack(pack(Path("Task05_Tiny"), Path("it.tar")), tmp_path / place / "scratch")
        return execute(plan_msd(task, 5, archive=Path("it.tar")), raw, workers=1)

    for place in ("one", "two"):
        write_task(tmp_path / place)
    folder = convert("two")
    before = contents(folder)
    with pytest.raises(InputError, match=r"tiny_00_0000.nii.gz: was made from other files, which .*conversion.csv"):
        convert("one")
    assert contents(folder) == before
    assert convert("two") == folder


def test_a_download_whose_folder_was_renamed_is_the_same(tmp_path):
    task = write_task(tmp_path / "one")
    folder = execute(plan_msd(task, 5), tmp_path / "raw", workers=1)
    written = {path: path.stat().st_mtime_ns for path in folder.glob("*/*.nii.gz")}
    moved = (tmp_path / "one").rename(tmp_path / "two") / task.name
    (folder / "labelsTr" / "tiny_01.nii.gz").unlink()
    execute(plan_msd(moved, 5), tmp_path / "raw", workers=1)
    kept = [path for path in written if path.stat().st_mtime_ns == written[path]]
    assert len(kept) == len(written) - len(list(folder.glob("*/tiny_01*")))
    assert f"\n{moved}/imagesTr/tiny_01.nii.gz,converted," in (folder / "conversion.csv").read_text()


def test_an_interrupted_conversion_of_another_task_is_not_continued(tmp_path, monkeypatch):
    one, two = (write_task(tmp_path / place) for place in ("one", "two"))

    def killed(*arguments):
        map_cases(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("missu_nnunet.datasets.conversion.map_cases", killed)
        with pytest.raises(KeyboardInterrupt):
            execute(plan_msd(two, 5), tmp_path / "raw", workers=1)
    begun = tmp_path / "raw" / ".partial-Dataset005_Tiny" / "labelsTr" / "tiny_00.nii.gz"
    written = begun.stat().st_mtime_ns
    folder = execute(plan_msd(one, 5), tmp_path / "raw", workers=1)
    assert (folder / "labelsTr" / begun.name).stat().st_mtime_ns > written


def test_an_edited_description_is_kept(tmp_path):
    task = write_task(tmp_path)
    folder = execute(plan_msd(task, 5), tmp_path / "raw", workers=1)
    assert edited(plan_msd(task, 5), tmp_path / "raw") == []
    description = json.loads((folder / "dataset.json").read_text())
    mine = description | {"channel_names": {"0": "T2", "1": "ADC"}, "overwrite_image_reader_writer": "NibabelIO"}
    (folder / "dataset.json").write_text(json.dumps(mine))
    for part in ("imagesTr", "labelsTr"):
        shutil.copy(task / part / "tiny_00.nii.gz", task / part / "tiny_07.nii.gz")
    assert edited(plan_msd(task, 5), tmp_path / "raw") == ["dataset.json"]
    execute(plan_msd(task, 5), tmp_path / "raw", workers=1)
    assert json.loads((folder / "dataset.json").read_text()) == mine | {"numTraining": 4}
    assert (folder / "labelsTr" / "tiny_07.nii.gz").is_file()
    (folder / "dataset.json").unlink()
    execute(plan_msd(task, 5), tmp_path / "raw", workers=1)
    assert json.loads((folder / "dataset.json").read_text()) == description | {"numTraining": 4}


def test_a_description_nested_too_deeply_is_named(tmp_path):
    task = write_task(tmp_path)
    folder = execute(plan_msd(task, 5), tmp_path / "raw", workers=1)
    (folder / "dataset.json").write_text("[" * 100_000)
    with pytest.raises(InputError, match=r"dataset.json: cannot be read as JSON \(nested too deeply\); remove it"):
        execute(plan_msd(task, 5), tmp_path / "raw", workers=1)


def test_a_conversion_begun_with_other_settings_is_not_continued(tmp_path):
    """Other labels in dataset.json than when an interrupted conversion wrote it: its files may not fit."""
    task = write_task(tmp_path)
    begun = tmp_path / "raw" / ".partial-Dataset005_Tiny"
    execute(plan_msd(task, 5), tmp_path / "raw", workers=1).rename(begun)
    description = json.loads((begun / "dataset.json").read_text())
    (begun / "dataset.json").write_text(json.dumps(description | {"name": "Other"}))
    (begun / "labelsTr" / "old.nii.gz").touch()
    folder = execute(plan_msd(task, 5), tmp_path / "raw", workers=1)
    assert not (folder / "labelsTr" / "old.nii.gz").exists()


def test_nothing_half_written_comes_into_the_dataset(tmp_path):
    left = tmp_path / "raw" / ".partial-Dataset005_Tiny" / "imagesTr" / ".partial-00000000-1-tiny_00_0000.nii.gz"
    left.parent.mkdir(parents=True)
    left.touch()
    folder = execute(plan_msd(write_task(tmp_path), 5), tmp_path / "raw", workers=1)
    assert not list(folder.rglob(".*"))


def pack(task, archive):
    with tarfile.open(archive, "w") as tar:
        tar.add(task, task.name)
    return archive


def test_archives(tmp_path):
    archive = pack(write_task(tmp_path), tmp_path / "Task05_Tiny.tar")
    task = unpack(archive, tmp_path / "scratch")
    assert task == tmp_path / "scratch" / "Task05_Tiny"
    plan = plan_msd(task, 5, archive=archive)
    folder = execute(plan, tmp_path / "raw", workers=1)
    assert f"\n{archive}/Task05_Tiny/imagesTr/tiny_00.nii.gz,converted," in (folder / "conversion.csv").read_text()
    archive.write_bytes(archive.read_bytes()[:3000])
    with pytest.raises(InputError, match=r"Task05_Tiny.tar: cannot be read as a tar"):
        unpack(archive, tmp_path / "again")


def test_archives_of_something_else(tmp_path):
    (tmp_path / "file").write_text("x")
    pack(tmp_path / "file", tmp_path / "other.tar")
    with pytest.raises(InputError, match=r"other.tar: found none in it, expected one folder such as"):
        unpack(tmp_path / "other.tar", tmp_path / "scratch")
    with tarfile.open(tmp_path / "evil.tar", "w") as tar:
        tar.add(tmp_path / "file", "../outside")
    with pytest.raises(InputError, match=r"evil.tar: ../outside: refused, because the path leads out"):
        unpack(tmp_path / "evil.tar", tmp_path / "scratch")
    assert not (tmp_path / "outside").exists()


@pytest.fixture
def server(tmp_path):
    """The address of a local web server, its folder and the requests it got."""
    folder = tmp_path / "www"
    folder.mkdir()
    requests = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            requests.append(self.path)

    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    threading.Thread(target=web.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{web.server_port}/", folder, requests
    web.shutdown()
    web.server_close()


def test_downloads_once_and_checks(server, tmp_path):
    address, folder, requests = server
    archive = pack(write_task(tmp_path), folder / "Task05_Tiny.tar")
    md5 = hashlib.md5(archive.read_bytes()).hexdigest()
    fetched = download("Task05_Tiny", md5, tmp_path / "archives", address)
    assert fetched.read_bytes() == archive.read_bytes()
    assert download("Task05_Tiny", md5, tmp_path / "archives", address) == fetched
    assert requests == ["/Task05_Tiny.tar"]


def test_failed_downloads_leave_nothing(server, tmp_path):
    address, folder, _ = server
    (folder / "Task02_Heart.tar").write_bytes(b"not the heart")
    with pytest.raises(InputError, match=r"Task02_Heart.tar: its checksum is not md5 06ee"):
        download("Task02_Heart", MD5["Task02_Heart"], tmp_path / "archives", address)
    with pytest.raises(InputError, match=r"Task03_Liver.tar: download failed \(404"):
        download("Task03_Liver", MD5["Task03_Liver"], tmp_path / "archives", address)
    with pytest.raises(InputError, match="download failed"):
        download("Task03_Liver", MD5["Task03_Liver"], tmp_path / "archives", "http://127.0.0.1:9")
    assert list((tmp_path / "archives").iterdir()) == []


def test_names_of_tasks():
    assert find_task("Task04") == find_task("Task04_Hippocampus") == "Task04_Hippocampus"
    with pytest.raises(InputError, match="Task11: neither a folder"):
        find_task("Task11")


def add_reader(task, reader):
    content = json.loads((task / "dataset.json").read_text())
    (task / "dataset.json").write_text(json.dumps(content | {"overwrite_image_reader_writer": reader}))


def spoil(file):
    image = nibabel.load(file)
    voxels = image.get_fdata()
    voxels[0] = np.nan
    nibabel.save(nibabel.Nifti1Image(voxels, image.affine, image.header), file)


def cut(file):
    content = gzip.decompress(file.read_bytes())
    file.write_bytes(gzip.compress(content[: len(content) // 2]))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda task: (task / "labelsTr" / "tiny_01.nii.gz").unlink(), r"tiny_01.nii.gz: (no labelsTr|listed)"),
        (lambda task: (task / "imagesTs" / "tiny_03.nii.gz").unlink(), r"tiny_03.nii.gz: listed in dataset.json but"),
        (lambda task: (task / "dataset.json").unlink(), r"dataset.json: no such file"),
        (lambda task: (task / "dataset.json").write_text('{"labels": {}}'), "the key 'modality' is missing"),
        (
            lambda task: add_reader(task, "np"),
            "dataset.json: refused, because overwrite_image_reader_writer is np",
        ),
        (lambda task: add_reader(task, ["NibabelIO"]), "overwrite_image_reader_writer: found .*, expected text"),
        (
            lambda task: sitk.WriteImage(
                sitk.Image(5, 6, 4, sitk.sitkFloat32), str(task / "imagesTr" / "tiny_01.nii.gz")
            ),
            r"tiny_01.nii.gz: 1 channels, expected 2",
        ),
        (lambda task: spoil(task / "imagesTr" / "tiny_01.nii.gz"), r"tiny_01.nii.gz: holds NaN or infinite values"),
        (lambda task: cut(task / "imagesTr" / "tiny_01.nii.gz"), r"tiny_01.nii.gz: damaged or cut short"),
        (
            lambda task: sitk.WriteImage(
                sitk.Image(5, 6, 3, sitk.sitkUInt8), str(task / "labelsTr" / "tiny_01.nii.gz")
            ),
            "refused by nnU-Net's integrity check",
        ),
    ],
)
def test_damage_is_named_and_leaves_no_dataset(tmp_path, damage, message):
    task = write_task(tmp_path)
    damage(task)
    with pytest.raises(InputError, match=message) as error:
        execute(plan_msd(task, 5), tmp_path / "raw", workers=1, check=lambda folder: check_integrity(folder, 1))
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "raw").glob("Dataset*"))


def test_a_folder_of_another_name(tmp_path):
    folder = write_task(tmp_path, name="Hippocampus")
    with pytest.raises(InputError, match="found no task number in the name"):
        plan_msd(folder, 5)
    (tmp_path / "Task04_Link").symlink_to(folder)
    assert plan_msd(tmp_path / "Task04_Link", 4).name == "Dataset004_Link"


@pytest.mark.parametrize("number", [0, 1234])
def test_a_number_that_is_no_id(tmp_path, number):
    task = write_task(tmp_path, name=f"Task{number}_Tiny")
    with pytest.raises(InputError, match=rf"Task{number}_Tiny: ID {number}, expected 1 to 999, .*--id"):
        plan_msd(task, task_number(task))
    assert plan_msd(task, 12).name == "Dataset012_Tiny"


def test_files_listed_elsewhere_are_not_the_datasets(tmp_path):
    task = write_task(tmp_path)
    description = json.loads((task / "dataset.json").read_text())
    (task / "dataset.json").write_text(json.dumps(description | {"dataset": None}))
    folder = execute(plan_msd(task, 5), tmp_path / "raw", workers=1, check=lambda folder: check_integrity(folder, 1))
    assert "dataset" not in json.loads((folder / "dataset.json").read_text())


class Trickle(http.server.BaseHTTPRequestHandler):
    """Answers with one byte at a time."""

    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        with suppress(OSError):
            for _ in range(10_000):
                self.wfile.write(b"x")
                time.sleep(0.01)

    def log_message(self, *arguments):
        pass


def test_a_download_that_trickles_for_ever_ends(tmp_path, monkeypatch):
    monkeypatch.setattr("missu_nnunet.datasets.msd.PATIENCE", 0.3)
    with http.server.ThreadingHTTPServer(("localhost", 0), Trickle) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(InputError, match=r"Task05_Prostate.tar: download failed \(\d+ bytes in 0.3 s\)"):
            download("Task05_Prostate", MD5["Task05_Prostate"], tmp_path, f"http://localhost:{server.server_port}")
        server.shutdown()
    assert list(tmp_path.iterdir()) == []
