#!/usr/bin/env bash
# Seven strategies x compression 2, 4, 8, 16 x three seeds on a naturally trained ResNet-20: clean, white-box, transfer.
#   benchmarks/gap_evidence.sh IMAGES WEIGHTS OUT
# IMAGES: a tree {train,test}/<class>/<image> of 32x32 pixels; WEIGHTS: a CIFAR-10 ResNet-20. 84 networks, fine-tuned for
# EPOCHS passes over TRAIN images, attacked by PGD with STEPS steps on ATTACKED test images, judged on TRANSFERRED examples
# of the dense parent. The defaults are for one GPU with a few cores, JOBS grids at a time; on two cores an hour and a
# half takes TRAIN=1500 EPOCHS=2 ATTACKED=200 STEPS=10 TRANSFERRED=1000 JOBS=1.
set -eu
images=$1 weights=$2 out=$3
train=${TRAIN:-10000} epochs=${EPOCHS:-4} seeds=${SEEDS:-0,1,2} compressions=${COMPRESSIONS:-2,4,8,16}
attacked=${ATTACKED:-2000} steps=${STEPS:-50} transferred=${TRANSFERRED:-2000} jobs=${JOBS:-8}
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
  start "gap_global_$seed" pruner=gap pruner.scope=global "compression=$compressions" "seed=$seed"
  start "gap_layer_$seed" pruner=gap pruner.scope=layer pruner.score=abs "compression=$compressions" "seed=$seed"
done
wait
python -m advprune.report.curves "$out/report" "$out"/{global,layer,gap_*}/{pgd,transfer}/table.json
