#!/usr/bin/env bash
# Makes results/machines/NAME anew:  results/machines/make.sh NAME STORE WEIGHTS WORK [SEEDS [WITHOUT]]
#
# NAME is slider or toycar, STORE a feature store of its recordings (front end dcase2020), WEIGHTS the
# folder that `asd weights mn04` prints, WORK a folder for the runs. What is there already is not
# computed again, so the script can be stopped and started. WITHOUT is the number of seeds that are
# also trained without augmentation.
set -euo pipefail
name=$1 store=$2 weights=$3 work=$4 seeds=${5:-3} without=${6:-$seeds}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export OMP_NUM_THREADS=1 # other numbers of threads round otherwise
mkdir -p "$work"

run() { # run NAME SYSTEM STORE [OPTION…]
  asd run "$2" --train "$3" --test "$3" --out "$work/$1" --held-out 5 --quiet "${@:4}"
}

none=(--set augmentation.mixup=false --set augmentation.rrc=false --set augmentation.post_norm=false)
alone=(--set embedding=encoder --set backend=pooled_mahalanobis)
frozen=(--set encoder=efficientat --set "pretrained.source=$weights" --set pretrained.mode=frozen --set epochs=0)

[ -d "$work/translated" ] || asd store translate "$store" "$work/translated" --preset efficientat
run statistics statistics "$store"
run statistics-pooled statistics "$store" --set covariance=pooled
run audioset contrastive "$work/translated" "${frozen[@]}"
run audioset-embedding contrastive "$work/translated" "${frozen[@]}" "${alone[@]}"
for ((seed = 0; seed < seeds; seed++)); do
  run "contrastive-$seed" contrastive "$store" --seed "$seed"
  run "contrastive-encoder-$seed" contrastive "$store" --seed "$seed" "${alone[@]}" --network-of "$work/contrastive-$seed"
  asd fuse "$work/audioset" "$work/contrastive-$seed" --out "$work/both-$seed" --quiet
done
for ((seed = 0; seed < without; seed++)); do
  run "none-$seed" contrastive "$store" --seed "$seed" "${none[@]}"
  run "none-encoder-$seed" contrastive "$store" --seed "$seed" "${none[@]}" "${alone[@]}" --network-of "$work/none-$seed"
done

rows=("statistics=$work/statistics" "statistics, pooled=$work/statistics-pooled")
rows+=("AudioSet network, frozen=$work/audioset" "AudioSet network, frozen, embedding alone=$work/audioset-embedding")
for ((seed = 0; seed < seeds; seed++)); do
  rows+=("contrastive=$work/contrastive-$seed" "contrastive, encoder alone=$work/contrastive-encoder-$seed")
  rows+=("AudioSet network and contrastive=$work/both-$seed")
done
for ((seed = 0; seed < without; seed++)); do
  rows+=("no augmentation=$work/none-$seed" "no augmentation, encoder alone=$work/none-encoder-$seed")
done
asd compare "${rows[@]}" --kind real --against "statistics, pooled" --against "contrastive" \
  --against "contrastive, encoder alone" --against "AudioSet network, frozen" \
  --data "DCASE 2020 development $name, split anew" --split "given test clips" \
  --selection "last epoch; levels and their weights settled while these labels were seen" \
  --selection "statistics=nothing was chosen" --out "$here/$name"
python "$here/scores.py" "$here/$name/scores.csv.xz" "${rows[@]}"
python "$here/levels.py" "$work/audioset" "$work/translated" "$here/$name/levels.csv"
python "$here/spectra.py" "$store" "$here/$name/spectra.csv"

[ "$name" = slider ] || exit 0 # every step of the block, where systems differ
declare -A called=([pre_norm]="no pre-norm" [mixup]="no mixup" [rrc]="no RRC" [post_norm]="no post-norm")
rows=()
for ((seed = 0; seed < seeds; seed++)); do
  for step in pre_norm mixup rrc post_norm; do
    run "no-$step-$seed" contrastive "$store" --seed "$seed" --set "augmentation.$step=false"
    run "no-$step-encoder-$seed" contrastive "$store" --seed "$seed" "${alone[@]}" \
      --set "augmentation.$step=false" --network-of "$work/no-$step-$seed"
    rows+=("${called[$step]}=$work/no-$step-$seed")
    rows+=("${called[$step]}, encoder alone=$work/no-$step-encoder-$seed")
  done
  rows+=("all steps=$work/contrastive-$seed" "all steps, encoder alone=$work/contrastive-encoder-$seed")
  rows+=("pre-norm alone=$work/none-$seed")
  rows+=("pre-norm alone, encoder alone=$work/none-encoder-$seed")
done
asd compare "${rows[@]}" --kind real --against "all steps" --against "all steps, encoder alone" \
  --data "DCASE 2020 development slider, split anew" --split "given test clips" \
  --selection "last epoch; levels and their weights settled while these labels were seen" \
  --out "$here/slider/steps"
python "$here/scores.py" "$here/slider/steps/scores.csv.xz" "${rows[@]}"
