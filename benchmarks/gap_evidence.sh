#!/usr/bin/env bash
# The seven strategies of experiment=gap_resnet20 on a naturally trained ResNet-20, at compression 2, 4, 8 and 16, three
# seeds: clean, white-box (PGD) and transfer accuracy (examples of the dense parent), one plot each, in OUT/report.
#   benchmarks/gap_evidence.sh IMAGES WEIGHTS OUT
# IMAGES  a tree {train,test}/<class>/<image> of 32x32 pixels
# WEIGHTS of a CIFAR-10 ResNet-20
# Sizes are variables; the defaults are for one GPU with a few cores:
#   TRAIN images and EPOCHS of fine-tuning     ATTACKED test images and STEPS of PGD     TRANSFERRED examples
#   BATCHES of GAP's gradient (null: all)      SEEDS, COMPRESSIONS                       JOBS: grids at a time
#   EXTRA words for every command
# Two cores, some 90 minutes: TRAIN=1500 EPOCHS=2 ATTACKED=200 STEPS=10 TRANSFERRED=1000 BATCHES=4 JOBS=1. So few steps
# do not recover what GAP removes: TRAIN=5000 EPOCHS=5 and more say something of it.
set -eu
images=$1 weights=$2 out=$3
train=${TRAIN:-10000} epochs=${EPOCHS:-4} seeds=${SEEDS:-0,1,2} compressions=${COMPRESSIONS:-2,4,8,16}
attacked=${ATTACKED:-2000} steps=${STEPS:-50} transferred=${TRANSFERRED:-2000} jobs=${JOBS:-8}
batches=${BATCHES:-null}
mkdir -p "$out"
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-2}
common=(-m experiment=gap_resnet20 dataset=image_folder "dataset.root=$images" "dataset.cache=$out/cache"
  dataset.image_size=32 dataset.num_classes=10 dataset.eps.linf=8/255 "dataset.train_images=$train" "dense=$weights"
  "finetune.epochs=$epochs" finetune.learning_rate=0.01 finetune.schedule=cosine "store=$out/stages"
  attack.batch_size=1000)
grid() {  # NAME, then its own words; a grid's tables land in OUT/NAME/{pgd,transfer}/table.json
  local name=$1; shift
  python prune.py "${common[@]}" attack=pgd "attack.steps=$steps" "attack.images=$attacked" \
    "hydra.sweep.dir=$out/$name/pgd" "$@" ${EXTRA:-} >"$out/$name.log" 2>&1 ||
    { echo "$name failed:"; tail -n 5 "$out/$name.log"; }
  python prune.py "${common[@]}" attack=transfer "attack.images=$transferred" \
    "hydra.sweep.dir=$out/$name/transfer" "$@" ${EXTRA:-} >>"$out/$name.log" 2>&1 ||
    { echo "$name failed:"; tail -n 5 "$out/$name.log"; }
}
# the images decoded and the dense parent judged, before the others ask for them at once
grid first pruner=random "compression=${compressions%%,*}" "seed=${seeds%%,*}"
start() {  # as grid, JOBS of them at a time
  while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n || true; done
  grid "$@" &
}
start global pruner=random,magnitude,gradient pruner.scope=global "compression=$compressions" "seed=$seeds"
start layer pruner=magnitude,gradient pruner.scope=layer "compression=$compressions" "seed=$seeds"
for seed in ${seeds//,/ }; do
  gap=(pruner=gap "pruner.criterion.count=$batches" "compression=$compressions" "seed=$seed")
  start "gap_global_$seed" "${gap[@]}" pruner.scope=global
  start "gap_layer_$seed" "${gap[@]}" pruner.scope=layer pruner.score=abs
done
wait
python -m advprune.report.curves.compression "$out/report" "$out"/{global,layer,gap_*}/{pgd,transfer}/table.json
