"""`jhpo tune` without --strategy."""

import jhpo


def test_the_command_line_goes_on_with_the_stored_strategy_whatever_the_budget(tmp_path, command):
    (tmp_path / "f.py").write_text(
        "import jhpo\nspace = jhpo.Space({'x': jhpo.Float(-1.0, 1.0)})\ndef objective(hp):\n    return hp['x'] ** 2\n"
    )
    file = str(tmp_path / "s.db")
    first = command("tune", str(tmp_path / "f.py"), "--budget", "300", "--storage", file)
    assert first[0] == 0, first[1]
    more = command("tune", str(tmp_path / "f.py"), "--budget", "600", "--storage", file, "--resume")
    assert more[0] == 0, more[1]
    with jhpo.Study.load(file, read_only=True) as study:
        assert type(study.strategy).__name__ == "PSO" and study.strategy.population == 10 and len(study) == 600
