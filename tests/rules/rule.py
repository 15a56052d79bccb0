"""What the rules share: walking the tree, and a main that fails if a rule is broken or no longer notices when it is."""
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
SKIPPED = 77  # Meson's exit status for a test that was skipped


def files(folders, suffixes, root=ROOT):
    """All files with one of the suffixes under the folders, as (path relative to the root, text)."""
    found = []
    for folder in folders:
        for path in sorted((root / folder).rglob("*")):
            if path.is_file() and path.suffix in suffixes:
                found.append((path.relative_to(root).as_posix(), path.read_bytes().decode("utf-8", "replace")))
    return found


def noticed(violations, what):
    """For self-checks: `violations` come from a made-up tree that breaks a rule, so there must be some."""
    if not violations:
        sys.exit(f"self-check: {what} went unnoticed")


def accepted(violations, what):
    if violations:
        sys.exit(f"self-check: {what} was called a violation: {violations}")


def finish(violations, checked):
    for violation in violations:
        print(violation)
    if not checked:
        sys.exit("nothing was checked")
    print(f"{checked} checked, {len(violations)} violations")
    sys.exit(1 if violations else 0)
