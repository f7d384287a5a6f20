import subprocess
import sys
import zipfile
from pathlib import Path


def test_the_wheel_carries_the_config(tmp_path):
    root = Path(__file__).parent.parent
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(root)]
    subprocess.run(build, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        packed = set(file.namelist())
        file.extractall(tmp_path / "site")
    for path in (root / "conf").rglob("*.yaml"):
        assert f"rebuttal/conf/{path.relative_to(root / 'conf')}" in packed
    assert any(name.endswith("entry_points.txt") for name in packed)
    assert "rebuttal/report/page.html.j2" in packed
    done = subprocess.run(
        [sys.executable, "-m", "rebuttal.train", "--cfg", "job", "model=vgg11"],
        cwd=tmp_path / "site",
        capture_output=True,
        text=True,
        check=True,
    )
    assert "rebuttal.models.VGG11" in done.stdout
