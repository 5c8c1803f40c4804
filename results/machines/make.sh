#!/usr/bin/env bash
# Makes the tables of this folder anew:  results/machines/make.sh SLIDER TOYCAR WEIGHTS WORK
#
# SLIDER and TOYCAR are feature stores of the recordings (front end dcase2020), WEIGHTS the folder
# that `asd weights mn04` prints, WORK a folder for the runs. What is there already is not computed
# again, so the script can be stopped and started. It takes some three hours of one core.
set -euo pipefail
slider=$1 toycar=$2 weights=$3 work=$4
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export OMP_NUM_THREADS=1 # other numbers of threads round otherwise
mkdir -p "$work"/{slider,toycar,together}

alone=(--set embedding=encoder --set backend=pooled_mahalanobis)
audioset=(--set encoder=efficientat --set "pretrained.source=$weights")
frozen=("${audioset[@]}" --set pretrained.mode=frozen --set epochs=0)
tuned=("${audioset[@]}" --set epochs=10 --set crop_frames=256 --set batch_norm=training)
fine=("${tuned[@]}" --set pretrained.mode=finetune --set learning_rate=1e-4)

run() { # run FOLDER TRAIN TEST [OPTION…]
  asd run contrastive --train "$2" --test "$3" --out "$work/$1" --quiet "${@:4}"
}
both_scorings() { # both_scorings FOLDER SEED TRAIN TEST [OPTION…]: by all levels, by the encoder alone
  run "$1-$2" "$3" "$4" --seed "$2" "${@:5}"
  run "$1-encoder-$2" "$3" "$4" --seed "$2" "${@:5}" "${alone[@]}" --network-of "$work/$1-$2"
}

declare -A without=(
  [contrastive]="" [none]="mixup rrc post_norm" [no-pre-norm]=pre_norm
  [no-mixup]=mixup [no-rrc]=rrc [no-post-norm]=post_norm
)
steps=(contrastive none no-pre-norm no-mixup no-rrc no-post-norm)
off() { # off STEP…: the options that leave these steps out
  for step in "$@"; do printf '%s\n' --set "augmentation.$step=false"; done
}

for machine in slider toycar; do
  store=${!machine}
  [ -d "$work/$machine/translated" ] ||
    asd store translate "$store" "$work/$machine/translated" --preset efficientat
  for covariance in own pooled; do
    asd run statistics --train "$store" --test "$store" --set covariance=$covariance \
      --out "$work/$machine/statistics-$covariance" --held-out 5 --quiet
  done
  for scoring in audioset audioset-embedding; do
    options=("${frozen[@]}")
    [ $scoring = audioset ] || options+=("${alone[@]}")
    run "$machine/$scoring" "$work/$machine/translated" "$work/$machine/translated" \
      "${options[@]}" --held-out 5
  done
done
for seed in 0 1 2 3 4; do
  for name in "${steps[@]}"; do
    # shellcheck disable=SC2046,SC2086
    both_scorings "slider/$name" $seed "$slider" "$slider" $(off ${without[$name]})
    # shellcheck disable=SC2046,SC2086
    both_scorings "slider/tuned-$name" $seed "$work/slider/translated" "$work/slider/translated" \
      "${fine[@]}" $(off ${without[$name]})
  done
done
[ -d "$work/together/store" ] || asd store merge "$slider" "$toycar" "$work/together/store"
for seed in 0 1 2; do
  for name in contrastive none; do
    # shellcheck disable=SC2046,SC2086
    both_scorings "toycar/$name" $seed "$toycar" "$toycar" $(off ${without[$name]})
  done
  both_scorings together/slider $seed "$work/together/store" "$slider"
  both_scorings together/toycar $seed "$work/together/store" "$toycar" \
    --network-of "$work/together/slider-$seed"
  both_scorings slider/lora $seed "$work/slider/translated" "$work/slider/translated" \
    "${tuned[@]}" --set pretrained.mode=lora
  run slider/head-$seed "$work/slider/translated" "$work/slider/translated" --seed $seed \
    "${tuned[@]}" --set pretrained.mode=frozen --set embedding=projection --set backend=knn
done

described() { # described MACHINE OUT [--against NAME …] -- ROW…: one comparison, and its scores
  local machine=$1 out=$here/$2 against=()
  shift 2
  while [ "$1" != -- ]; do against+=(--against "$1") && shift; done
  shift
  asd compare "$@" "${against[@]}" --kind real \
    --data "DCASE 2020 development $machine, split anew" --split "given test clips" \
    --selection "last epoch; levels and their weights settled while these labels were seen" \
    --out "$out"
  python "$here/scores.py" "$out/scores.csv.xz" "$@"
}
named() { # named NAME RUN…: these runs as rows of this name
  for folder in "${@:2}"; do rows+=("$1=$folder"); done
}

for machine in slider toycar; do
  for seed in 0 1 2; do
    run "$machine/contrastive-$seed" "${!machine}" "${!machine}" --seed $seed --held-out 5
    [ -d "$work/$machine/both-$seed" ] ||
      asd fuse "$work/$machine/audioset" "$work/$machine/contrastive-$seed" \
        --out "$work/$machine/both-$seed" --quiet
  done
  rows=()
  named "statistics" "$work/$machine/statistics-own"
  named "statistics, pooled" "$work/$machine/statistics-pooled"
  named "AudioSet network, frozen" "$work/$machine/audioset"
  named "AudioSet network, frozen, embedding alone" "$work/$machine/audioset-embedding"
  named "contrastive" "$work/$machine"/contrastive-[0-9]
  named "contrastive, encoder alone" "$work/$machine"/contrastive-encoder-[0-9]
  named "no augmentation" "$work/$machine"/none-[0-9]
  named "no augmentation, encoder alone" "$work/$machine"/none-encoder-[0-9]
  named "both machines together" "$work/together/$machine"-[0-9]
  named "both machines together, encoder alone" "$work/together/$machine"-encoder-[0-9]
  named "AudioSet network and contrastive" "$work/$machine"/both-[0-9]
  if [ $machine = slider ]; then
    named "AudioSet network, fine-tuned" "$work/slider"/tuned-contrastive-[0-9]
    named "AudioSet network, fine-tuned, embedding alone" "$work/slider"/tuned-contrastive-encoder-[0-9]
    named "AudioSet network, adapters" "$work/slider"/lora-[0-9]
    named "AudioSet network, adapters, embedding alone" "$work/slider"/lora-encoder-[0-9]
    named "AudioSet network, head alone" "$work/slider"/head-[0-9]
  fi
  described $machine $machine "statistics, pooled" "contrastive" "contrastive, encoder alone" \
    "no augmentation" "no augmentation, encoder alone" "AudioSet network, frozen" -- "${rows[@]}"
  python "$here/levels.py" "$work/$machine/audioset" "$work/$machine/translated" \
    "$here/$machine/levels.csv"
  python "$here/spectra.py" "${!machine}" "$here/$machine/spectra.csv"
done
for start in "" tuned-; do
  rows=()
  for name in "${steps[@]}"; do
    words=${name//-/ }
    [ $name = contrastive ] && words="all steps"
    [ $name = none ] && words="no step but pre norm"
    named "$words" "$work/slider/$start$name"-[0-9]
    named "$words, encoder alone" "$work/slider/$start$name"-encoder-[0-9]
  done
  described slider "slider/${start:+audioset_}steps" "all steps" "all steps, encoder alone" -- "${rows[@]}"
done
