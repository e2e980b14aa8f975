# For the scripts that install what some tests run on: sourced, not run.

# Set to --list, `install_once` only prints the names of those that it would install.
only_list=${1:-}

# Usage: install_once NAME LOCK STAMP ABSENT COMMAND...
# Runs COMMAND unless STAMP says that it succeeded for this LOCK. Where it fails, the reason is left in the file ABSENT.
install_once() {
    local name=$1 lock=$2 stamp=$3 absent=$4 output
    shift 4
    cmp -s "$lock" "$stamp" && return
    [ -z "$only_list" ] || { printf '%s ' "$name"; return; }
    if output=$("$@" 2>&1); then
        cp "$lock" "$stamp"
        rm -f "$absent"
        echo "$(basename "$0"): installed $name"
    else
        rm -f "$stamp"
        printf '%s can not be installed here: %s\n' "$name" "$(tail -n 1 <<<"$output")" | tee "$absent" >&2
    fi
}

# Usage: npm_ci DIRECTORY   Installs what its package-lock.json pins.
npm_ci() {
    command -v npm >/dev/null || { echo "npm not found"; return 1; }
    npm ci --prefix "$1" --ignore-scripts --no-audit --no-fund --loglevel=error
}
