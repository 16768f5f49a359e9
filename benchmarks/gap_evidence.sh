#!/usr/bin/env bash
# Seven strategies x compression 2, 4, 8, 16 x three seeds on a naturally trained ResNet-20: clean, white-box, transfer.
#   benchmarks/gap_evidence.sh IMAGES WEIGHTS OUT
# IMAGES: a tree {train,test}/<class>/<image> of 32x32 pixels; WEIGHTS: a CIFAR-10 ResNet-20. Sized for one GPU with a
# few cores: 84 networks, fine-tuned for EPOCHS passes over TRAIN images, attacked by PGD-50 on 2,000 test images.
set -eu
images=$1 weights=$2 out=$3
train=${TRAIN:-10000} epochs=${EPOCHS:-4} seeds=${SEEDS:-0,1,2} compressions=${COMPRESSIONS:-2,4,8,16}
mkdir -p "$out"
export OMP_NUM_THREADS=2
common=(-m experiment=gap_resnet20 dataset=image_folder "dataset.root=$images" "dataset.cache=$out/cache"
  dataset.image_size=32 dataset.num_classes=10 dataset.eps.linf=8/255 "dataset.train_images=$train" "dense=$weights"
  "finetune.epochs=$epochs" finetune.learning_rate=0.01 finetune.schedule=cosine "store=$out/stages" attack=pgd,transfer
  attack.images=2000 attack.batch_size=1000)
grid() {  # NAME, then its own words; a grid's table lands in OUT/NAME/table.json
  local name=$1; shift
  python prune.py "${common[@]}" "hydra.sweep.dir=$out/$name" "$@" ${EXTRA:-} >"$out/$name.log" 2>&1 ||
    { echo "$name failed:"; tail -n 5 "$out/$name.log"; }
}
# the images decoded and the dense parent judged, before the others ask for them at once
grid first pruner=random "compression=${compressions%%,*}" "seed=${seeds%%,*}"
grid global pruner=random,magnitude,gradient pruner.scope=global "compression=$compressions" "seed=$seeds" &
grid layer pruner=magnitude,gradient pruner.scope=layer "compression=$compressions" "seed=$seeds" &
for seed in ${seeds//,/ }; do
  grid "gap_global_$seed" pruner=gap pruner.scope=global "compression=$compressions" "seed=$seed" &
  grid "gap_layer_$seed" pruner=gap pruner.scope=layer pruner.score=abs "compression=$compressions" "seed=$seed" &
done
wait
python -m advprune.report.curves "$out/report" "$out"/{global,layer,gap_*}/table.json
