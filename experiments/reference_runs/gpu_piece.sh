# Sourced by the gpu_*.sh scripts: one piece of a training, and what it used.
#
#   piece NAME OPTIONS...     trains runs/NAME for at most nine minutes ($PIECE_SECONDS), or to its end; call it again to resume
#
# After that time `ddpm train` is told to stop (SIGTERM): it saves a checkpoint, and the next piece continues the same
# run, bit for bit. The log runs/NAME/log.txt holds the cost that it printed, and memory.csv the memory that the driver saw.
piece() {
    local name="$1"; shift
    local folder="runs/$name" seconds="${PIECE_SECONDS:-540}" watcher="" status=0
    mkdir -p "$folder"
    if command -v nvidia-smi >/dev/null; then
        nvidia-smi --query-gpu=timestamp,name,memory.used,utilization.gpu,power.draw --format=csv -l 15 \
            >> "$folder/memory.csv" & watcher=$!
    fi
    # One more minute for the checkpoint, then it is killed: the previous checkpoint is complete whatever happens.
    timeout -k 60 "$seconds" ddpm train --name "$name" "$@" 2>&1 | tee -a "$folder/log.txt" || status=$?
    [ -n "$watcher" ] && kill "$watcher"
    case $status in
        0)           echo "$name: all its steps are done" ;;
        124|143)
            if ls "$folder"/checkpoints/step_*.json >/dev/null 2>&1; then
                echo "$name: this piece is over; run the same command again to resume"; status=75
            else
                echo "$name: no step was saved in $seconds s; give a piece more time, PIECE_SECONDS=$((2 * seconds))" >&2
            fi ;;
        137)         echo "$name: killed, since it was still writing a minute after its $seconds s; the last checkpoint is" \
                          "whole. Give a piece more time, such as PIECE_SECONDS=$((2 * seconds))" >&2 ;;
        *)           echo "$name: ddpm train failed with status $status" >&2 ;;
    esac
    return $status
}
