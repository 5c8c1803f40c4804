#!/usr/bin/env bash
# Makes the tables of this folder anew:  results/machines/make.sh SLIDER TOYCAR WEIGHTS WORK
#
# SLIDER and TOYCAR are feature stores of the recordings (front end dcase2020), WEIGHTS the folder
# that `asd weights mn04` prints, WORK a folder for the runs. What is there already is not computed
# again, so the script can be stopped and started. It takes some five hours of one core.
set -euo pipefail
slider=$1 toycar=$2 weights=$3 work=$4
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export OMP_NUM_THREADS=1 # other numbers of threads round otherwise

alone=(--set embedding=encoder --set backend=pooled_mahalanobis)
audioset=(--set encoder=efficientat --set "pretrained.source=$weights")
frozen=("${audioset[@]}" --set pretrained.mode=frozen --set epochs=0)
fine=("${audioset[@]}" --set pretrained.mode=finetune --set learning_rate=1e-4 --set epochs=10)
fine+=(--set crop_frames=256 --set batch_norm=training)

run() { # run NAME SYSTEM TRAIN TEST [OPTION…]
  asd run "$2" --train "$3" --test "$4" --out "$work/$1" --quiet "${@:5}"
}
scored_twice() { # scored_twice NAME SEED TRAIN TEST [OPTION…]: by all levels, by the encoder alone
  run "$1-$2" contrastive "$3" "$4" --seed "$2" "${@:5}"
  run "$1-encoder-$2" contrastive "$3" "$4" --seed "$2" "${@:5}" "${alone[@]}" \
    --network-of "$work/$1-$2"
}

steps=(contrastive none no-pre-norm no-mixup no-rrc no-post-norm)
declare -A called=(
  [contrastive]="all steps" [none]="pre-norm alone" [no-pre-norm]="no pre-norm"
  [no-mixup]="no mixup" [no-rrc]="no RRC" [no-post-norm]="no post-norm"
) options=(
  [contrastive]="" [none]="mixup=false rrc=false post_norm=false" [no-pre-norm]="pre_norm=false"
  [no-mixup]="mixup=false" [no-rrc]="rrc=false" [no-post-norm]="post_norm=false"
)
without() { # without VARIANT: fill `off` with the options that leave its steps out
  off=()
  for option in ${options[$1]}; do off+=(--set "augmentation.$option"); done
}

for machine in slider toycar; do
  store=${!machine} translated=$work/$machine/translated
  [ -d "$translated" ] || asd store translate "$store" "$translated" --preset efficientat
  run $machine/statistics statistics "$store" "$store" --held-out 5
  run $machine/statistics-pooled statistics "$store" "$store" --held-out 5 --set covariance=pooled
  run $machine/audioset contrastive "$translated" "$translated" --held-out 5 "${frozen[@]}"
  run $machine/audioset-embedding contrastive "$translated" "$translated" --held-out 5 \
    "${frozen[@]}" "${alone[@]}"
  for seed in 0 1 2; do # a threshold for fusing needs held-out clips
    run $machine/contrastive-$seed contrastive "$store" "$store" --seed $seed --held-out 5
    asd fuse "$work/$machine/audioset" "$work/$machine/contrastive-$seed" \
      --out "$work/$machine/both-$seed" --quiet
    run $machine/contrastive-encoder-$seed contrastive "$store" "$store" --seed $seed \
      "${alone[@]}" --network-of "$work/$machine/contrastive-$seed"
  done
done
run slider/autoencoder-0 autoencoder "$slider" "$slider" --seed 0 --held-out 5 --set epochs=30
translated=$work/slider/translated
for seed in 0 1 2 3 4; do
  for name in "${steps[@]}"; do
    without "$name"
    [ "$name-$((seed < 3))" = contrastive-1 ] || # is there already
      scored_twice "slider/$name" $seed "$slider" "$slider" "${off[@]}"
    scored_twice "slider/tuned-$name" $seed "$translated" "$translated" "${fine[@]}" "${off[@]}"
  done
done
merged=$work/together/store
[ -d "$merged" ] || asd store merge "$slider" "$toycar" "$merged"
for seed in 0 1 2; do
  scored_twice together/slider $seed "$merged" "$slider"
  scored_twice together/toycar $seed "$merged" "$toycar" \
    --network-of "$work/together/slider-$seed"
  scored_twice slider/views-only $seed "$slider" "$slider" --set loss=nt_xent
  scored_twice slider/mixing-high $seed "$slider" "$slider" --set augmentation.mixing=high \
    --set augmentation.cutoff_hz=2000
  scored_twice slider/untrained $seed "$slider" "$slider" --set epochs=0
done

rows=()
row() { # row NAME RUN [SEED…]: runs that are compared under this name
  if [ $# = 2 ]; then rows+=("$1=$work/$2"); fi
  for seed in "${@:3}"; do rows+=("$1=$work/$2-$seed"); done
}
both_rows() { # both_rows NAME RUN SEED…: by all levels, and by the encoder alone
  row "$1" "$2" "${@:3}"
  row "$1, encoder alone" "$2-encoder" "${@:3}"
}
compare() { # compare MACHINE OUT REFERENCE…: one table of `rows`, and the scores of its clips
  local against=() selection=()
  for reference in "${@:3}"; do against+=(--against "$reference"); done
  [ "$1" != "$2" ] || selection=(--selection "statistics=nothing was chosen")
  rm -f "$here/$2"/{comparison.csv,comparison.md,paired.csv,provenance.json,systems.csv}
  asd compare "${rows[@]}" "${against[@]}" --kind real \
    --data "DCASE 2020 development $1, split anew" --split "given test clips" \
    --selection "last epoch; levels and their weights settled while these labels were seen" \
    "${selection[@]}" --out "$here/$2"
  python "$here/scores.py" "$here/$2/scores.csv.xz" "${rows[@]}"
  rows=()
}

for machine in slider toycar; do
  seeds=(0 1 2 3 4)
  [ $machine = slider ] || seeds=(0 1 2)
  row "statistics" $machine/statistics
  row "statistics, pooled" $machine/statistics-pooled
  row "AudioSet network, frozen" $machine/audioset
  row "AudioSet network, frozen, encoder alone" $machine/audioset-embedding
  both_rows "contrastive" $machine/contrastive "${seeds[@]}"
  both_rows "both machines together" together/$machine 0 1 2
  row "AudioSet network and contrastive" $machine/both 0 1 2
  references=("statistics, pooled" "contrastive" "AudioSet network, frozen")
  references+=("contrastive, encoder alone")
  if [ $machine = slider ]; then
    row "autoencoder" slider/autoencoder 0
    both_rows "no augmentation" slider/none "${seeds[@]}"
    both_rows "AudioSet network, fine-tuned" slider/tuned-contrastive "${seeds[@]}"
  fi
  compare $machine $machine "${references[@]}"
  python "$here/levels.py" "$work/$machine/audioset" "$work/$machine/translated" \
    "$here/$machine/levels.csv"
  python "$here/spectra.py" "${!machine}" "$here/$machine/spectra.csv"
done
for start in "" tuned-; do
  for name in "${steps[@]}"; do both_rows "${called[$name]}" "slider/$start$name" 0 1 2 3 4; done
  compare slider "slider/${start:+audioset_}steps" "all steps" "all steps, encoder alone"
done
both_rows "as it is" slider/contrastive 0 1 2
both_rows "contrast of views only" slider/views-only 0 1 2
both_rows "mixing above 2 kHz" slider/mixing-high 0 1 2
both_rows "no training" slider/untrained 0 1 2
compare slider slider/changes "as it is" "as it is, encoder alone"
